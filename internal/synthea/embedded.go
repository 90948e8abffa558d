package synthea

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"io/fs"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// data holds manifest.json and one zstd file per part. gen/ writes them.
//
//go:embed data
var data embed.FS

// maxWindow bounds the memory of one decoder. The packer's window is 8 MiB
// (what klauspost/compress takes at its best level).
const maxWindow = 16 << 20

// Manifest describes a packed set; data/manifest.json is one.
type Manifest struct {
	Generator string          `json:"generator"` // "org.mitre.synthea:synthea:3.3.0"
	Parts     []ManifestEntry `json:"parts"`
}

// ManifestEntry is one packed part: a zstd frame over NDJSON.
type ManifestEntry struct {
	Name      string         `json:"name"`  // the file's name
	Bytes     int64          `json:"bytes"` // of NDJSON, unpacked
	Resources int            `json:"resources"`
	Types     map[string]int `json:"types"`
}

// Embedded is the set of patients inside the binary.
func Embedded() Source { return packed{data, "data"} }

// ReadManifest reads the description of the embedded set.
func ReadManifest() (Manifest, error) { return packed{data, "data"}.manifest() }

// packed reads what the packer wrote.
type packed struct {
	files  fs.FS
	folder string
}

const manifestName = "manifest.json"

func (p packed) manifest() (Manifest, error) {
	var m Manifest
	text, err := fs.ReadFile(p.files, p.folder+"/"+manifestName)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	return m, fault.Wrap(fault.Internal, "synthea.Embedded", err)
}

func (p packed) Parts(ctx context.Context) ([]Part, error) {
	m, err := p.manifest()
	if err != nil {
		return nil, err
	}
	parts := make([]Part, 0, len(m.Parts))
	for _, e := range m.Parts {
		parts = append(parts, Part{
			Name:      e.Name,
			Resources: e.Resources,
			Types:     e.Types,
			Open:      func(ctx context.Context) (io.ReadCloser, error) { return p.open(ctx, e.Name) },
		})
	}
	return parts, ctxError(ctx)
}

func (p packed) open(ctx context.Context, name string) (io.ReadCloser, error) {
	file, err := p.files.Open(p.folder + "/" + name)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "synthea.Open", err)
	}
	unpacked, err := zstdReader(file)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "synthea.Open", errors.Join(err, file.Close()))
	}
	return &stream{ctx: ctx, Reader: unpacked, closers: []io.Closer{unpacked, file}}, nil
}

// zstdReader decodes in the caller's goroutine, so that a stream that is not
// closed leaves no goroutine behind.
func zstdReader(r io.Reader) (io.ReadCloser, error) {
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}

// stream is a reader that ends with its context.
type stream struct {
	ctx context.Context
	io.Reader
	closers []io.Closer
}

func (s *stream) Read(p []byte) (int, error) {
	if err := ctxError(s.ctx); err != nil {
		return 0, err
	}
	return s.Reader.Read(p)
}

// Close closes the layers from the top down and tells the first error.
func (s *stream) Close() error {
	var first error
	for _, c := range s.closers {
		if err := c.Close(); err != nil && first == nil {
			first = fault.Wrap(fault.Internal, "synthea.Close", err)
		}
	}
	s.closers = nil
	return first
}

func ctxError(ctx context.Context) error {
	return fault.Wrap(fault.Canceled, "synthea", ctx.Err())
}
