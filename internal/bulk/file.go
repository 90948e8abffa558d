package bulk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// cursor is how far a file is durable. Persisted, as JSON.
type cursor struct {
	Version string // of the object
	Line    int64  // the last line that is durable
	Done    bool   `json:",omitempty"` // the output is there too
	Counts  counts `json:",omitzero"`  // when Done
}

// The folders of the output, as HealthLake names them.
const (
	success = iota
	failure
	flawed
)

var folders = [...]string{"SUCCESS/", "FAILURE/", "SUCCESS_WITH_SEARCH_VALIDATION_FAILURES/"}

// fileRun is one file on its way.
type fileRun struct {
	*importRun
	file
	part   store.Part
	from   cursor // of the attempts before
	out    [len(folders)]blob.Writer
	counts counts
	seen   int64 // the last line that was looked at
	stored *counted
	told   int64 // bytes of the file, as stored, that the report has
}

// file carries one file through.
func (a *importRun) file(ctx context.Context, importer store.Importer, f file) error {
	part, err := importer.Part(ctx, f.Key)
	if err != nil {
		return err
	}
	r := &fileRun{importRun: a, file: f, part: part}
	if raw := part.Cursor(); raw != nil {
		if err := json.Unmarshal(raw, &r.from); err != nil {
			return fault.Wrap(fault.Internal, "bulk.Import", err)
		}
	}
	switch {
	case r.from.Done:
		a.tally.add(r.from.Counts, 0, nil)
		a.tally.finished(r.from.Counts.Faulty)
		r.tell(r.Size)
		return nil
	case a.closing && r.from.Line == 0:
		return nil
	}
	defer r.abort()
	if err := r.read(ctx); err != nil {
		return err
	}
	return r.finish(ctx)
}

// abort leaves no half output.
func (r *fileRun) abort() {
	for _, w := range r.out {
		if w != nil {
			if err := w.Abort(); err != nil {
				r.Log.Warn("a file of an import's output was not given up cleanly", "job", r.run.Job.ID, "error", err)
			}
		}
	}
}

// piece is some lines of a file on their way.
type piece struct {
	lines []line
	bytes int64
	read  int64 // of the file, as stored, when it was cut
	ready chan struct{}
}

// line is one resource on its way.
type line struct {
	number  int64
	text    []byte
	refused error // by its reader

	folder  int
	op      store.Op
	note    []byte // what the output says
	message string // why it was refused
}

// read brings the file's lines to the store and to the output. What makes the
// file unreadable is one more refused line.
func (r *fileRun) read(ctx context.Context) error {
	in, err := r.open(ctx, r.file)
	var src source
	if err == nil {
		defer in.Close() // it was only read
		r.stored = in.stored
		if src, err = r.source(in); err != nil && passing(err) {
			return err
		}
	}
	if err == nil && r.from.Version != "" && r.from.Version != r.Version {
		err = fault.New(fault.Conflict, "bulk.Import", "the file was changed while it was imported")
	}
	if err == nil {
		err = r.pump(ctx, src)
	}
	if err == nil || passing(err) {
		return err
	}
	if r.closing {
		return nil
	}
	r.counts.Faulty = true
	broken := &piece{lines: []line{{number: r.seen + 1, refused: err}}}
	r.judge(ctx, broken)
	return r.apply(ctx, broken)
}

func (r *fileRun) source(in io.Reader) (source, error) {
	if r.form == formWhole {
		return newWhole(in)
	}
	return newLines(in), nil
}

// passing reports whether a fault is the storage's or the server's, not the
// file's.
func passing(err error) bool {
	switch fault.From(err).Kind {
	case fault.Invalid, fault.Conflict, fault.NotFound, fault.Forbidden, fault.Syntax, fault.TooLarge:
		_, ours := errors.AsType[*storeFault](err)
		return ours
	}
	return true
}

// storeFault marks what the store or the output said: never a fault of the file.
type storeFault struct{ error }

func (s *storeFault) Unwrap() error { return s.error }

func ours(err error) error {
	if err == nil {
		return nil
	}
	return &storeFault{err}
}

// pump reads pieces, has them judged side by side, and applies them in order.
// What apply begins to write goes on after it, so only the reading ends with it.
func (r *fileRun) pump(ctx context.Context, src source) error {
	reading, cancel := context.WithCancel(ctx)
	defer cancel()
	order := make(chan *piece, piecesInLine)
	var broken error
	go func() {
		defer close(order)
		broken = r.feed(reading, src, order)
	}()
	var failed error
	for p := range order {
		<-p.ready
		if failed == nil {
			if failed = r.apply(ctx, p); failed != nil {
				cancel()
			}
		}
		r.memory.Release(weight(p))
	}
	if failed != nil {
		return failed
	}
	return broken
}

func weight(p *piece) int64 { return min(p.bytes, bytesInMemory) }

// feed cuts the file into pieces until its end.
func (r *fileRun) feed(ctx context.Context, src source, order chan<- *piece) error {
	for {
		p, err := r.cut(src)
		if len(p.lines) > 0 {
			if err := r.memory.Acquire(ctx, weight(p)); err != nil {
				return fault.Wrap(fault.Canceled, "bulk.Import", err)
			}
			go func() {
				r.judges <- struct{}{}
				defer func() { <-r.judges }()
				r.judge(ctx, p)
				close(p.ready)
			}()
			order <- p
		}
		if err == io.EOF || r.closing && r.beyond(p) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// beyond reports whether a piece reached the end of what is durable.
func (r *fileRun) beyond(p *piece) bool {
	return len(p.lines) > 0 && p.lines[len(p.lines)-1].number >= r.from.Line
}

// cut reads the lines of one piece.
func (r *fileRun) cut(src source) (*piece, error) {
	p := &piece{ready: make(chan struct{})}
	for len(p.lines) < pieceLines && p.bytes < pieceBytes {
		number, text, err := src.next()
		switch {
		case fault.Is(err, fault.TooLarge):
			p.lines = append(p.lines, line{number: number, refused: err})
		case err != nil:
			p.read = r.stored.bytes
			return p, err
		default:
			p.bytes += int64(len(text))
			p.lines = append(p.lines, line{number: number, text: text})
		}
	}
	p.read = r.stored.bytes
	return p, nil
}

// judge decides what becomes of each line of a piece.
func (r *fileRun) judge(ctx context.Context, p *piece) {
	for i := range p.lines {
		l := &p.lines[i]
		if r.closing && l.number > r.from.Line {
			continue
		}
		if err := r.judgeLine(ctx, l); err != nil {
			l.folder, l.message = failure, fault.From(err).Message()
			l.note = note(l.number, fhir.Outcome(fault.From(err)), statusOf(err))
		}
		l.text = nil
	}
}

// statusOf is the HTTP status that a refusal would have had.
func statusOf(err error) int { return fault.From(err).Kind.Row().FHIRStatus }

// note is a line of the output.
func note(number int64, blob []byte, status int) []byte {
	b := strconv.AppendInt([]byte(`{"lineId":`), number, 10)
	b = append(append(b, `,"UpdateResourceResponse":{"jsonBlob":`...), blob...)
	b = strconv.AppendInt(append(b, `,"statusCode":`...), int64(status), 10)
	return append(b, "}}\n"...)
}

func (r *fileRun) judgeLine(ctx context.Context, l *line) error {
	if l.refused != nil {
		return l.refused
	}
	doc, err := fhir.ParseLimits(l.text, lineLimits)
	if err != nil {
		return notJSON(err)
	}
	if doc, err = r.withID(doc, l.number); err != nil {
		return err
	}
	t, known := r.target.Types.Type(doc.ResourceType())
	if !known {
		return fault.New(fault.Invalid, "bulk.Import", "the resourceType is missing or not one of R4")
	}
	key := plan.Key{Type: t, ID: doc.ID()}
	switch {
	case key.ID == "":
		return fault.New(fault.Invalid, "bulk.Import", "Missing required id field in resource json")
	case !fhir.ValidID(key.ID):
		return fault.New(fault.Invalid, "bulk.Import", "the id is not 1 to 64 of A-Z a-z 0-9 - and .")
	}
	stored, issues, marked, err := r.Judge.Examine(ctx, r.Level, doc)
	if err != nil {
		return err
	}
	if l.op, err = r.put(key, stored); err != nil {
		return err
	}
	l.success(doc.ResourceType(), issues, marked)
	stored.Release()
	return nil
}

// notJSON says in HealthLake's words that a line is no JSON, and where.
func notJSON(err error) error {
	f := *fault.From(err)
	f.Detail = "Invalid JSON found in input file: " + f.Detail
	return &f
}

// withID gives a resource without id one, where that is allowed: the same at
// every attempt.
func (r *fileRun) withID(doc *fhir.Document, number int64) (*fhir.Document, error) {
	if !r.MintIDs || doc.Root().Kind() != fhir.Object || doc.Root().Get("id").Exists() {
		return doc, nil
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d", r.run.Job.ID, r.Key, number))
	return fhir.ParseLimits(fhir.Apply(doc, []fhir.Edit{fhir.SetFirst(doc.Root(), "id", fhir.AppendString(nil, hex.EncodeToString(sum[:16])))}), lineLimits)
}

func (r *fileRun) put(key plan.Key, doc *fhir.Document) (store.Op, error) {
	body, err := fhir.Store(doc)
	if err != nil {
		return store.Op{}, err
	}
	entries, err := r.target.Extractor.Extract(key, doc.Root())
	if err != nil {
		return store.Op{}, err
	}
	op := store.Op{Kind: store.Put, Key: key, Body: body, Entries: entries, Tag: Tag}
	return op, store.CheckOp("bulk.Import", &op)
}

// success notes a line that is imported: at minimal, one with faults apart.
func (l *line) success(kind string, issues []fault.Issue, marked bool) {
	if marked {
		l.folder = flawed
		l.note = note(l.number, fhir.Outcome(&fault.Error{Kind: fault.Invalid, Place: issues}), 200)
		return
	}
	what := append(fhir.AppendString([]byte(`{"resourceType":`), kind), `,"id":`...)
	what = append(fhir.AppendString(what, l.op.Key.ID), '}')
	l.folder, l.note = success, note(l.number, what, 200)
}

// apply brings a piece to the store, as far as it is not there, and to the output.
func (r *fileRun) apply(ctx context.Context, p *piece) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, "bulk.Import", ctx.Err())
	}
	var ops []store.Op
	var c counts
	var refused []LineError
	for i := range p.lines {
		l := &p.lines[i]
		if r.closing && l.number > r.from.Line {
			break
		}
		r.seen = l.number
		c.Scanned++
		if l.folder == failure {
			c.Errors++
			refused = append(refused, LineError{r.name, l.number, l.message})
		} else {
			c.Imported++
			c.Bytes += int64(len(l.op.Body))
			if l.number > r.from.Line {
				ops = append(ops, l.op)
			}
		}
		if err := r.write(ctx, l); err != nil {
			return err
		}
	}
	if len(ops) > 0 {
		if err := r.part.Add(ctx, ops, r.cursor(cursor{Line: r.seen})); err != nil {
			return ours(err)
		}
	}
	r.counts.Scanned += c.Scanned
	r.counts.Imported += c.Imported
	r.counts.Bytes += c.Bytes
	r.counts.Errors += c.Errors
	r.tally.add(c, int64(len(ops)), refused)
	r.tell(p.read)
	return nil
}

// tell reports that the file was brought in so far, in bytes as stored.
func (r *fileRun) tell(read int64) {
	if read > r.told {
		r.tally.read(read - r.told)
		r.told = read
	}
}

func (r *fileRun) cursor(c cursor) []byte {
	c.Version = r.Version
	raw, _ := json.Marshal(c) // strings and numbers always marshal
	return raw
}

// write adds a line to the output.
func (r *fileRun) write(ctx context.Context, l *line) error {
	w := r.out[l.folder]
	if w == nil {
		var err error
		if w, err = r.importRun.out.Create(ctx, r.folder.Under(path.Join(folders[l.folder], r.outputName())).Key); err != nil {
			return ours(err)
		}
		r.out[l.folder] = w
	}
	_, err := w.Write(l.note)
	return ours(err)
}

// outputName is what a file's output is called: like the file; what was
// compressed is not so here, and says that.
func (r *fileRun) outputName() string {
	if r.packing != "" {
		return r.name + ".ndjson"
	}
	return r.name
}

// finish makes the file durable: its resources, then its output, then that it is
// done.
func (r *fileRun) finish(ctx context.Context) error {
	if err := r.part.Flush(ctx); err != nil {
		return ours(err)
	}
	for _, w := range r.out {
		if w != nil {
			if err := w.Commit(); err != nil {
				return ours(err)
			}
		}
	}
	r.tally.finished(r.counts.Faulty || r.closing)
	r.tell(r.Size) // what is behind a fault will not be read
	if r.closing {
		return nil
	}
	if err := r.part.Add(ctx, nil, r.cursor(cursor{Line: r.seen, Done: true, Counts: r.counts})); err != nil {
		return ours(err)
	}
	return ours(r.part.Flush(ctx))
}
