package synthea

import (
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// maxFiles bounds the files of one folder: Synthea writes one per patient.
const maxFiles = 1 << 20

// Dir is a folder of Synthea's FHIR R4 output, or Synthea's output folder with
// fhir/ inside. It takes transaction, batch and collection bundles (*.json)
// and NDJSON (*.ndjson), plain or as .gz, .zst or .bz2, in subfolders too;
// other files and those whose name begins with a point are left out.
//
// Hospital and practitioner bundles are found by what they hold, wherever they
// lie. Parts reads every file once, to count, to learn the identifiers that
// conditional references name, and to find at once what cannot be resolved;
// opening a part reads a bundle twice, NDJSON once.
//
// The error is Invalid when there is no such folder, or no such file
// in it.
func Dir(folder string) (Source, error) {
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "synthea.Dir", Detail: "there is no such folder", Cause: err}
	}
	files := os.DirFS(folder)
	if info, err := fs.Stat(files, "fhir"); err == nil && info.IsDir() {
		files = os.DirFS(filepath.Join(folder, "fhir"))
	}
	d := dir{files}
	if _, err := d.list(context.Background()); err != nil {
		return nil, err
	}
	return d, nil
}

type dir struct{ files fs.FS }

// form is how a file holds resources.
type form uint8

const (
	otherForm form = iota
	bundleForm
	ndjsonForm
)

// formOf reads a file's form and compression from its name.
func formOf(name string) (form, string) {
	name = strings.ToLower(name)
	packing := path.Ext(name)
	switch packing {
	case ".gz", ".zst", ".bz2":
		name = strings.TrimSuffix(name, packing)
	default:
		packing = ""
	}
	switch path.Ext(name) {
	case ".json":
		return bundleForm, packing
	case ".ndjson":
		return ndjsonForm, packing
	}
	return otherForm, ""
}

// list gives the names of the files to read, sorted.
func (d dir) list(ctx context.Context) ([]string, error) {
	var names []string
	err := fs.WalkDir(d.files, ".", func(name string, e fs.DirEntry, err error) error {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		if hidden := strings.HasPrefix(e.Name(), ".") && name != "."; hidden && e.IsDir() {
			return fs.SkipDir
		} else if f, _ := formOf(name); hidden || e.IsDir() || f == otherForm {
			return nil
		}
		if len(names) == maxFiles {
			return fault.New(fault.TooLarge, "synthea.Dir", "more than %d files", maxFiles)
		}
		names = append(names, name)
		return nil
	})
	if ctx.Err() != nil {
		return nil, ctxError(ctx)
	}
	if err == nil && len(names) == 0 {
		err = &fault.Error{Kind: fault.Invalid, Op: "synthea.Dir", Detail: "the folder holds no Synthea output",
			Hint: "give the folder with Synthea's FHIR R4 bundles (*.json) or NDJSON (*.ndjson)"}
	}
	return names, fault.Wrap(fault.Internal, "synthea.Dir", err)
}

// Parts scans the folder: one part per file.
func (d dir) Parts(ctx context.Context) ([]Part, error) {
	files, err := d.list(ctx)
	if err != nil {
		return nil, err
	}
	s := scan{providers: make(names), wanted: make(map[string]string)}
	found := make([]scanned, 0, len(files))
	for _, name := range files {
		f, err := d.scan(ctx, &s, name)
		if err != nil {
			return nil, inFile(err, name)
		}
		found = append(found, f)
	}
	if err := s.unanswered(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b scanned) int { return a.rank - b.rank })
	parts := make([]Part, 0, len(found))
	for _, f := range found {
		f.part.Open = func(ctx context.Context) (io.ReadCloser, error) { return d.open(ctx, f.part.Name, s.providers) }
		parts = append(parts, f.part)
	}
	return parts, nil
}

// inFile names the file in an error; what the error was about before moves
// into its sentence.
func inFile(err error, name string) error {
	found := *fault.From(err)
	if found.Subject != "" {
		found.Detail = found.Subject + ": " + found.Detail
	}
	found.Subject = name
	return &found
}

// file is an open file of the folder.
type file struct {
	entries
	form    form
	closers []io.Closer
}

func (d dir) file(name string) (*file, error) {
	raw, err := d.files.Open(name)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "synthea.open", err)
	}
	kind, packing := formOf(name)
	f := &file{form: kind, closers: []io.Closer{raw}}
	r, err := f.unpack(raw, packing)
	if err != nil {
		return nil, errors.Join(readError(err), f.Close())
	}
	if kind == bundleForm {
		f.entries = newBundle(r)
	} else {
		f.entries = newLines(r)
	}
	return f, nil
}

func (f *file) unpack(r io.Reader, packing string) (io.Reader, error) {
	var unpacked io.ReadCloser
	var err error
	switch packing {
	case ".gz":
		unpacked, err = gzip.NewReader(r)
	case ".zst":
		unpacked, err = zstdReader(r)
	case ".bz2":
		return bzip2.NewReader(r), nil
	default:
		return r, nil
	}
	if err == nil {
		f.closers = append([]io.Closer{unpacked}, f.closers...)
	}
	return unpacked, err
}

func (f *file) Close() error {
	s := stream{closers: f.closers}
	return s.Close()
}

// scan is what one pass over all files learns.
type scan struct {
	providers names
	wanted    map[string]string // conditional reference → the first file that has it
}

// unanswered is the error for a conditional reference that no file answers.
func (s *scan) unanswered() error {
	r := resolver{providers: s.providers}
	var first error
	for text, name := range s.wanted {
		_, _, err := r.resolve(text)
		if err != nil && (first == nil || inFile(err, name).Error() < first.Error()) {
			first = inFile(err, name)
		}
	}
	return first
}

// scanned is one file after the scan.
type scanned struct {
	part Part
	rank int // files load in this order
}

func (d dir) scan(ctx context.Context, s *scan, name string) (scanned, error) {
	f, err := d.file(name)
	if err != nil {
		return scanned{}, err
	}
	defer f.Close() //nolint:errcheck // only read from
	out := scanned{part: Part{Name: name, Types: make(map[string]int)}, rank: len(loadOrder)}
	own, urns := make(names), make(map[string]struct{})
	for {
		e, err := nextEntry(ctx, f)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = s.note(e, name, own, urns)
		}
		if err != nil {
			return scanned{}, err
		}
		kind := e.resource.ResourceType()
		if out.part.Resources == 0 {
			out.rank = rank(kind)
		}
		out.part.Resources++
		out.part.Types[kind]++
	}
	r := resolver{bundle: own}
	for text := range urns {
		if _, _, err := r.resolve(text); err != nil {
			return scanned{}, err
		}
	}
	return out, nil
}

func nextEntry(ctx context.Context, f *file) (entry, error) {
	if err := ctxError(ctx); err != nil {
		return entry{}, err
	}
	return f.next()
}

// note learns the names that an entry carries and the ones it asks for.
func (s *scan) note(e entry, file string, own names, urns map[string]struct{}) error {
	target, err := noteName(own, e)
	if err != nil {
		return err
	}
	if err := s.providers.addProvider(e.resource, target); err != nil {
		return err
	}
	for ref := range fhir.References(e.resource) {
		switch text := ref.Text(); {
		case strings.HasPrefix(text, "urn:"):
			urns[text] = struct{}{}
		case isConditional(text):
			if _, known := s.wanted[text]; !known && len(s.wanted) < maxProviders {
				s.wanted[text] = file
			}
		}
	}
	return nil
}

func noteName(own names, e entry) (target string, err error) {
	if target, err = e.target(); err == nil && e.fullURL != "" {
		err = own.add(e.fullURL, target, maxEntries)
	}
	return target, err
}

// loadOrder puts first what the rest refers to. A file takes the place of its
// first resource's type: Synthea's patient bundles begin with the Patient.
var loadOrder = [...]string{"Organization", "Location", "Practitioner", "PractitionerRole", "Patient"}

func rank(kind string) int {
	if i := slices.Index(loadOrder[:], kind); i >= 0 {
		return i
	}
	return len(loadOrder)
}

// open reads a bundle's names first, then streams it.
func (d dir) open(ctx context.Context, name string, providers names) (io.ReadCloser, error) {
	own, err := d.bundleNames(ctx, name)
	if err != nil {
		return nil, inFile(err, name)
	}
	f, err := d.file(name)
	if err != nil {
		return nil, inFile(err, name)
	}
	text := &rewritten{ctx: ctx, file: f, name: name, resolver: resolver{own, providers}}
	return &stream{ctx: ctx, Reader: text, closers: []io.Closer{f}}, nil
}

func (d dir) bundleNames(ctx context.Context, name string) (names, error) {
	own := make(names)
	if kind, _ := formOf(name); kind != bundleForm {
		return own, nil
	}
	f, err := d.file(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	for {
		e, err := nextEntry(ctx, f)
		if errors.Is(err, io.EOF) {
			return own, nil
		}
		if err == nil {
			_, err = noteName(own, e)
		}
		if err != nil {
			return nil, err
		}
	}
}

// rewritten gives a file's resources as NDJSON with literal references.
type rewritten struct {
	ctx      context.Context
	file     *file
	name     string
	resolver resolver
	line     []byte
	left     []byte // of line, not given out yet
	err      error  // what ended the stream
}

func (r *rewritten) Read(p []byte) (int, error) {
	if len(r.left) == 0 && r.err == nil {
		r.err = r.advance()
	}
	if len(r.left) == 0 {
		return 0, r.err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

func (r *rewritten) advance() error {
	e, err := nextEntry(r.ctx, r.file)
	if errors.Is(err, io.EOF) {
		return err
	}
	if err == nil {
		r.line, err = r.resolver.appendLine(r.line[:0], e)
	}
	if err != nil {
		return inFile(err, r.name)
	}
	r.left = r.line
	return nil
}
