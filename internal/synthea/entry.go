package synthea

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// maxEntryBytes bounds one bundle entry and one line of NDJSON, and so the
// memory of a stream. Synthea's largest resource, the Provenance of a patient
// with a long history, has some MiB.
const maxEntryBytes = 64 << 20

// entry is one resource as a file holds it.
type entry struct {
	fullURL  string    // "" in NDJSON
	resource fhir.Node // of a document that is valid until the next entry
}

// entries goes through the resources of one file in order.
type entries interface {
	// next gives io.EOF behind the last entry. The entry before it is no
	// longer valid then.
	next() (entry, error)
}

// lines reads NDJSON.
type lines struct {
	scan *bufio.Scanner
	doc  *fhir.Document
}

// firstBuffer is what a line scanner begins with.
const firstBuffer = 64 << 10

func newLines(r io.Reader) *lines {
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, firstBuffer), maxEntryBytes)
	return &lines{scan: scan}
}

func (l *lines) next() (entry, error) {
	if l.doc != nil {
		l.doc.Release()
		l.doc = nil
	}
	for l.scan.Scan() {
		line := l.scan.Bytes()
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		doc, err := fhir.ParseLimits(line, fhir.Limits{MaxBytes: maxEntryBytes})
		if err != nil {
			return entry{}, err
		}
		l.doc = doc
		return entry{resource: doc.Root()}, nil
	}
	err := l.scan.Err()
	switch {
	case err == nil:
		return entry{}, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return entry{}, errTooLong()
	}
	return entry{}, readError(err)
}

func errTooLong() error {
	return fault.New(fault.TooLarge, "synthea.read", "an entry has more than %d bytes", maxEntryBytes)
}

// readError gives an error from below a kind: what the operator's file is
// wrong in (a broken archive, a cut off file) is Invalid like any other fault
// of it, unless a kind is known.
func readError(err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if _, known := errors.AsType[*fault.Error](err); known {
		return err
	}
	return &fault.Error{Kind: fault.Invalid, Op: "synthea.read", Detail: "the file cannot be read to its end", Cause: err}
}

// bundle reads the entries of a Bundle one after the other, without holding
// the bundle: Synthea's largest have hundreds of MB.
type bundle struct {
	dec   *jsontext.Decoder
	meter *meter
	doc   *fhir.Document
	where bundlePlace
	isOne bool // resourceType is Bundle
}

type bundlePlace uint8

const (
	atBundleStart bundlePlace = iota
	amongMembers
	amongEntries
)

func newBundle(r io.Reader) *bundle {
	m := &meter{r: r}
	return &bundle{dec: jsontext.NewDecoder(m), meter: m}
}

func (b *bundle) next() (entry, error) {
	if b.doc != nil {
		b.doc.Release()
		b.doc = nil
	}
	for {
		var done bool
		var err error
		switch b.where {
		case atBundleStart:
			err = b.open()
		case amongMembers:
			done, err = b.member()
		case amongEntries:
			var e entry
			if e, done, err = b.item(); done || err != nil {
				return e, jsonError(err)
			}
		}
		if err != nil {
			return entry{}, jsonError(err)
		}
		if done {
			return entry{}, b.end()
		}
	}
}

// jsonError tells a fault of the JSON from the kinds known already.
func jsonError(err error) error {
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok && !errors.Is(err, io.ErrUnexpectedEOF) {
		return &fault.Error{Kind: fault.Invalid, Op: "synthea.read", Detail: "no valid JSON", Cause: syntax}
	}
	return readError(err)
}

func (b *bundle) open() error {
	if b.dec.PeekKind() != '{' {
		return b.noBundle()
	}
	b.where = amongMembers
	_, err := b.dec.ReadToken()
	return err
}

// noBundle tells broken JSON from JSON that is something else.
func (b *bundle) noBundle() error {
	if _, err := b.value(); err != nil {
		return err
	}
	return errNoBundle()
}

func errNoBundle() error {
	return &fault.Error{Kind: fault.Invalid, Op: "synthea.read", Detail: "a JSON file that is no Bundle",
		Hint: "the folder is to hold Synthea's FHIR R4 output only: bundles (*.json) or NDJSON (*.ndjson)"}
}

// member reads one member of the bundle; done behind the last one.
func (b *bundle) member() (done bool, err error) {
	name, err := b.dec.ReadToken()
	if err != nil || name.Kind() == '}' {
		return true, err
	}
	switch name.String() {
	case "entry":
		b.where = amongEntries
		if b.dec.PeekKind() != '[' {
			return false, b.noBundle()
		}
		_, err = b.dec.ReadToken()
		return false, err
	case "resourceType":
		var kind jsontext.Value
		kind, err = b.value()
		b.isOne = string(kind) == `"Bundle"`
	default:
		_, err = b.value()
	}
	return false, err
}

// item reads one entry; done is true when e is one, false behind the last.
func (b *bundle) item() (e entry, done bool, err error) {
	if b.dec.PeekKind() == ']' {
		b.where = amongMembers
		_, err = b.dec.ReadToken()
		return entry{}, false, err
	}
	text, err := b.value()
	if err != nil {
		return entry{}, false, err
	}
	if b.doc, err = fhir.ParseLimits(text, fhir.Limits{MaxBytes: maxEntryBytes}); err != nil {
		return entry{}, false, err
	}
	e = entry{fullURL: b.doc.Root().Get("fullUrl").Text(), resource: b.doc.Root().Get("resource")}
	if e.resource.Kind() != fhir.Object {
		return entry{}, false, fault.New(fault.Invalid, "synthea.read", "a bundle entry without resource")
	}
	return e, true, nil
}

func (b *bundle) value() (jsontext.Value, error) {
	v, err := b.dec.ReadValue()
	b.meter.mark = b.dec.InputOffset()
	return v, err
}

// end checks the whole behind its last member.
func (b *bundle) end() error {
	if !b.isOne {
		return errNoBundle()
	}
	if _, err := b.dec.ReadToken(); err == nil {
		return fault.New(fault.Invalid, "synthea.read", "more than one JSON value in a .json file")
	} else if !errors.Is(err, io.EOF) {
		return jsonError(err)
	}
	return io.EOF
}

// meter ends a read when the decoder has taken in more than one value may
// have, so that its buffer stays in bounds.
type meter struct {
	r    io.Reader
	read int64 // bytes given out
	mark int64 // of which the decoder is done with
}

func (m *meter) Read(p []byte) (int, error) {
	if m.read-m.mark > maxEntryBytes {
		return 0, errTooLong()
	}
	n, err := m.r.Read(p)
	m.read += int64(n)
	return n, err
}
