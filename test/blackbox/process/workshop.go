package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// workshop is a folder for what all tests of a test binary share.
var workshop string

// Main runs a package's tests with a workshop around them, and gives the exit
// status: func TestMain(m *testing.M) { os.Exit(process.Main(m)) }.
func Main(tests interface{ Run() int }) int {
	var err error
	if workshop, err = os.MkdirTemp("", "tarn-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	status := tests.Run()
	if err := os.RemoveAll(workshop); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return status
}

// Workshop is a folder that is there until Main ends.
func Workshop() string { return workshop }

// Built gives the binary under test: TARN_TEST_BINARY's, or one built from this
// checkout at the first test that asks, not in TestMain: the sources are then
// among what `go test` knows the result to depend on.
var Built = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("TARN_TEST_BINARY"); given != "" {
		return filepath.Abs(given)
	}
	executable := filepath.Join(workshop, "tarn")
	return executable, Build(context.Background(), executable)
})
