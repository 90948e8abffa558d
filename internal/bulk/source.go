package bulk

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// file is one object of an import's input.
type file struct {
	blob.Object
	name    string // behind the input's folder: what its output is called
	form    form
	packing string // suffix of the compression
}

// form is how a file holds resources.
type form uint8

const (
	formNone   form = iota
	formLines       // NDJSON
	formWhole       // one JSON value: a resource, or a Bundle of them
	zstdWindow = 64 << 20
)

// formOf reads form and compression from a file's name.
func formOf(name string) (form, string) {
	packing := ""
	for _, suffix := range []string{".gz", ".zst"} {
		if rest, found := strings.CutSuffix(name, suffix); found {
			name, packing = rest, suffix
			break
		}
	}
	switch {
	case strings.HasSuffix(name, ".ndjson"):
		return formLines, packing
	case strings.HasSuffix(name, ".json"):
		return formWhole, packing
	}
	return formNone, ""
}

// source gives a file's resources one after the other.
type source interface {
	// next gives the number and the text of the next resource; the text is the
	// caller's. A refusal of kind TooLarge is of this one only; io.EOF is behind
	// the last.
	next() (line int64, text []byte, err error)
}

// content is an open file, unpacked.
type content struct {
	io.Reader
	stored *counted
	close  []func() error
}

// counted counts what is read of a file as it is stored.
type counted struct {
	io.Reader
	bytes int64
}

// Read implements io.Reader.
func (c *counted) Read(into []byte) (int, error) {
	n, err := c.Reader.Read(into)
	c.bytes += int64(n)
	return n, err
}

// Close closes all of it.
func (c *content) Close() (err error) {
	for i := len(c.close) - 1; i >= 0; i-- {
		err = errors.Join(err, c.close[i]())
	}
	return err
}

func (a *importRun) open(ctx context.Context, f file) (*content, error) {
	object, err := a.in.Open(ctx, f.Key, blob.Read{Version: f.Version, Size: f.Size})
	if err != nil {
		return nil, err
	}
	in := &counted{Reader: object}
	c := &content{Reader: in, stored: in, close: []func() error{object.Close}}
	switch f.packing {
	case ".gz":
		unpacked, err := gzip.NewReader(bufio.NewReaderSize(in, 256<<10))
		if err != nil {
			return nil, errors.Join(unreadable(err), c.Close())
		}
		c.Reader = unpacked
	case ".zst":
		unpacked, err := zstd.NewReader(in, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errors.Join(unreadable(err), c.Close())
		}
		c.Reader, c.close = unpacked, append(c.close, func() error { unpacked.Close(); return nil })
	}
	return c, nil
}

// unreadable gives what breaks a file off a kind: the storage's own, or Invalid
// for content that cannot be unpacked.
func unreadable(err error) error {
	if _, known := errors.AsType[*fault.Error](err); known || err == nil {
		return err
	}
	return &fault.Error{Kind: fault.Invalid, Op: "bulk.read", Detail: "the file cannot be read to its end: " + readFault(err), Cause: err}
}

func readFault(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "it breaks off in the middle of its compressed content"
	}
	return "its compressed content is broken"
}

// lineReader reads NDJSON.
type lineReader struct {
	in   *bufio.Reader
	line int64
}

func newLines(r io.Reader) *lineReader { return &lineReader{in: bufio.NewReaderSize(r, 256<<10)} }

// next implements source. A line that is cut off by an unreadable file is part of
// what cannot be read, not a line.
func (l *lineReader) next() (int64, []byte, error) {
	for {
		text, err := l.read()
		if err != nil && err != io.EOF {
			return l.line, nil, err
		}
		if text = bytes.TrimSpace(text); len(text) > 0 {
			return l.line, text, nil
		}
		if err == io.EOF {
			return l.line, nil, io.EOF
		}
	}
}

func (l *lineReader) read() ([]byte, error) {
	l.line++
	var line []byte
	long := false
	for {
		piece, err := l.in.ReadSlice('\n')
		if long = long || len(line)+len(piece) > MaxLine; long {
			line = nil // the rest is passed over
		} else {
			line = append(line, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && err != io.EOF:
			return nil, unreadable(err)
		case long:
			return nil, fault.New(fault.TooLarge, "bulk.read", "the line is longer than %d bytes", MaxLine)
		}
		return line, err
	}
}

// wholeReader gives the resource of a JSON file, or those of a Bundle.
type wholeReader struct {
	texts [][]byte
	at    int
}

// newWhole reads a JSON file. A Bundle of a type other than document and message
// is taken apart: the entries' references by fullUrl become references to their
// resources, and entries without id get that of their fullUrl.
func newWhole(r io.Reader) (*wholeReader, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxLine+1))
	if err != nil {
		return nil, unreadable(err)
	}
	if len(text) > MaxLine {
		return nil, fault.New(fault.Invalid, "bulk.read", "a JSON file may have %d bytes; use NDJSON for more", MaxLine)
	}
	doc, err := fhir.ParseLimits(text, lineLimits)
	if err != nil || !apart(doc) {
		return &wholeReader{texts: [][]byte{text}}, nil // judged like any line
	}
	defer doc.Release()
	return &wholeReader{texts: entriesOf(doc)}, nil
}

// lineLimits bound one resource.
var lineLimits = fhir.Limits{MaxBytes: MaxLine}

// apart reports whether a document is a Bundle to be taken apart.
func apart(doc *fhir.Document) bool {
	switch doc.Root().Get("type").Text() {
	case "document", "message":
		return false
	}
	return doc.ResourceType() == "Bundle"
}

// entriesOf gives the resources of a Bundle's entries, an entry without one as
// the entry itself, which is refused like any other text that is no resource.
func entriesOf(bundle *fhir.Document) [][]byte {
	places := map[string]string{}
	entries := bundle.Root().Get("entry")
	for e := range entries.Items() {
		r := e.Get("resource")
		if full, id := e.Get("fullUrl").Text(), idOf(e); full != "" && id != "" {
			places[full] = r.ResourceType() + "/" + id
		}
	}
	var texts [][]byte
	for e := range entries.Items() {
		r := e.Get("resource")
		if r.Kind() != fhir.Object {
			texts = append(texts, bytes.Clone(e.Raw()))
			continue
		}
		texts = append(texts, settled(r, idOf(e), places))
	}
	return texts
}

// idOf is the id of an entry's resource, or the one that its fullUrl ends in.
func idOf(entry fhir.Node) string {
	if id := entry.Get("resource").Get("id").Text(); id != "" {
		return id
	}
	full := entry.Get("fullUrl").Text()
	if id := full[strings.LastIndexAny(full, ":/")+1:]; fhir.ValidID(id) {
		return id
	}
	return ""
}

// settled is a resource with its id, and with references that hold outside its
// Bundle.
func settled(r fhir.Node, id string, places map[string]string) []byte {
	doc, err := fhir.ParseLimits(bytes.Clone(r.Raw()), lineLimits)
	if err != nil {
		return bytes.Clone(r.Raw())
	}
	defer doc.Release()
	var edits []fhir.Edit
	if id != "" && !doc.Root().Get("id").Exists() {
		edits = append(edits, fhir.SetFirst(doc.Root(), "id", fhir.AppendString(nil, id)))
	}
	for ref := range fhir.References(doc.Root()) {
		if to := places[ref.Text()]; to != "" {
			edits = append(edits, fhir.Edit{Node: ref, With: fhir.AppendString(nil, to)})
		}
	}
	if edits == nil {
		return doc.Bytes()
	}
	return fhir.Apply(doc, edits)
}

// next implements source.
func (w *wholeReader) next() (int64, []byte, error) {
	if w.at == len(w.texts) {
		return int64(w.at), nil, io.EOF
	}
	w.at++
	return int64(w.at), w.texts[w.at-1], nil
}
