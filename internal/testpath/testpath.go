// Package testpath finds the shared test material that lies beside the
// checkout (../shared from the repository's root). Tests that need it skip
// where it is absent, unless TARN_REQUIRE_SUITES=1, as CI sets it.
package testpath

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// Root is the repository's root folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
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
