// Package patients writes synthetic patients for imports that are measured.
package patients

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/synthea"
)

// typeFiles are NDJSON files, one a resource type.
type typeFiles struct {
	folder string
	files  map[string]*typeFile
}

type typeFile struct {
	*bufio.Writer
	file *os.File
}

// Write writes synthetic patients as NDJSON into a folder, a file a resource type,
// several times over (up to 256) with other ids each time, and gives the number of
// resources.
func Write(ctx context.Context, source synthea.Source, folder string, times int) (n int, err error) {
	parts, err := source.Parts(ctx)
	if err != nil {
		return 0, err
	}
	w := &typeFiles{folder, map[string]*typeFile{}}
	defer func() { err = errors.Join(err, w.close()) }()
	for again := range times {
		for _, p := range parts {
			if err := w.part(ctx, p, byte(again)); err != nil {
				return 0, err
			}
			n += p.Resources
		}
	}
	return n, nil
}

// maxLine bounds a line of synthetic patients, in bytes.
const maxLine = 64 << 20

func (w *typeFiles) part(ctx context.Context, p synthea.Part, again byte) error {
	in, err := p.Open(ctx)
	if err != nil {
		return err
	}
	defer in.Close() // it was only read
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := w.line(lines.Bytes(), again); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (w *typeFiles) line(line []byte, again byte) error {
	doc, err := fhir.Parse(line)
	if err != nil {
		return err
	}
	to, err := w.of(doc.ResourceType())
	doc.Release()
	if err != nil {
		return err
	}
	_, err = to.Write(append(otherIDs(line, again), '\n'))
	return err
}

func (w *typeFiles) of(kind string) (*typeFile, error) {
	if f := w.files[kind]; f != nil {
		return f, nil
	}
	file, err := os.Create(filepath.Join(w.folder, kind+".ndjson"))
	if err != nil {
		return nil, err
	}
	w.files[kind] = &typeFile{bufio.NewWriterSize(file, 1<<20), file}
	return w.files[kind], nil
}

func (w *typeFiles) close() (err error) {
	for _, f := range w.files {
		err = errors.Join(err, f.Flush(), f.file.Close())
	}
	return err
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// otherIDs changes every UUID in a line, each always to the same other one.
func otherIDs(line []byte, again byte) []byte {
	if again == 0 {
		return bytes.Clone(line)
	}
	return uuid.ReplaceAllFunc(line, func(id []byte) []byte {
		var head byte
		_, _ = fmt.Sscanf(string(id[:2]), "%02x", &head) // two hex digits always scan
		return append(fmt.Appendf(nil, "%02x", head^again), id[2:]...)
	})
}
