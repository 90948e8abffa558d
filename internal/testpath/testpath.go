// Package testpath finds the shared test material that lies beside the
// checkout (../shared from the repository's root). Tests that need it skip
// where it is absent, unless TARN_REQUIRE_SUITES=1, as CI sets it.
package testpath

import (
	"os"
	"path/filepath"
	"testing"
)

// Root is the repository's root folder: the nearest one above the working
// folder, which go test sets to the package's, that holds go.mod. It does not
// ask for source positions, which -trimpath takes away.
func Root() string {
	dir, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			panic("testpath: no go.mod above the working folder")
		}
		dir = up
	}
}

// Shared gives the path of one piece of shared material, for example
// Shared(t, "suites", "sigv4.json"); the test is skipped, or failed where the
// suites are required, when it is not there.
func Shared(t testing.TB, elem ...string) string {
	t.Helper()
	path := filepath.Join(append([]string{Root(), "..", "shared"}, elem...)...)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	missing := "shared material is absent: " + filepath.Join(elem...)
	if os.Getenv("TARN_REQUIRE_SUITES") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}
