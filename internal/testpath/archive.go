package testpath

import (
	"archive/tar"
	"bufio"
	"io"
	"iter"
	"os"
	"testing"

	"github.com/ulikunitz/xz"
)

// Files gives the name and content of each file in a shared .tar.xz archive, in
// the archive's order; what is absent is treated as Shared does.
func Files(t testing.TB, elem ...string) iter.Seq2[string, []byte] {
	t.Helper()
	path := Shared(t, elem...)
	return func(yield func(string, []byte) bool) {
		t.Helper()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()                                //nolint:errcheck // only read from
		plain, err := xz.NewReader(bufio.NewReader(f)) // it reads byte by byte
		if err != nil {
			t.Fatal(err)
		}
		for archive := tar.NewReader(plain); ; {
			name, content, err := nextFile(archive)
			if err == io.EOF { //nolint:errorlint // the archive's end, not one that is cut off
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !yield(name, content) {
				return
			}
		}
	}
}

// nextFile skips what is no file; io.EOF behind the last.
func nextFile(archive *tar.Reader) (string, []byte, error) {
	for {
		h, err := archive.Next()
		if err != nil {
			return "", nil, err
		}
		if h.Typeflag == tar.TypeReg {
			content, err := io.ReadAll(archive)
			return h.Name, content, err
		}
	}
}
