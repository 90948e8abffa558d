// Package export writes the resources of one moment of a data store as NDJSON.
//
//	Request → arms, one a type → pages of the moment → lines → files in a blob.Bucket
//
// Everything is read at the Request's moment, in short views, so that an export
// may last as long as it likes and holds back nothing. A file is there whole or
// not at all; the State names the files that are there and where each type goes
// on behind them. An export that was cut off goes on from its last State: it
// writes the file that was under way again, under the same name and from the
// same place, so that no line is there twice and none is missing.
//
// Sources: Bulk Data Access 2.0.0 (hl7.org/fhir/uv/bulkdata); HealthLake
// developer guide, "Exporting FHIR data".
package export

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Level is what an export is about.
type Level string

// The levels of Bulk Data Access.
const (
	System   Level = "system"
	Patients Level = "Patient" // the compartments of patients
	Group    Level = "Group"   // the compartments of a Group's active members
)

// Request is what to export. Persisted as JSON.
type Request struct {
	Moment store.Moment
	Time   time.Time // when that moment was: transactionTime
	URL    string    `json:",omitempty"` // the request, as it was sent
	Level  Level
	// Owners are the ids of the patients, unless nil: then all of them.
	Owners []string `json:",omitempty"`
	Group  string   `json:",omitempty"` // the Group's id
	// Types are the resource types, by name: those asked for that the caller may
	// read.
	Types        []string
	Since, Until time.Time     `json:",omitzero"`  // Since ≤ lastUpdated < Until
	Filters      []string      `json:",omitempty"` // _typeFilter: "Observation?code=x"
	All          []search.Pair `json:",omitempty"` // on every type: _tag, _security
	Elements     []string      `json:",omitempty"` // "id", "Patient.name"
	Provenance   bool          `json:",omitempty"` // those about what is exported, too
	// Latest keeps, of the Provenance that came so, those that are the newest about
	// one of their targets.
	Latest  bool     `json:",omitempty"`
	Ignored []string `json:",omitempty"` // what was passed over, for the error file
	ByType  bool     `json:",omitempty"` // a folder for each type, as HealthLake
}

// Kind is which list of a manifest a file is in.
type Kind string

// The kinds of files.
const (
	Output  Kind = "output"
	Deleted Kind = "deleted"
	Errors  Kind = "error"
)

// File is one file that is complete. Persisted.
type File struct {
	Kind  Kind
	Type  string // the resources in it
	Name  string // key below the exporter's prefix
	Count int64  // lines
	Bytes int64
}

// State is how far an export came. Persisted as a job's checkpoint.
type State struct {
	Files []File
	At    map[string]Place `json:",omitempty"` // by type, and "" for what was deleted
	Total int64            `json:",omitempty"` // resources, counted at the beginning
	Done  int64            `json:",omitempty"` // resources in Files
}

// Place is where a type goes on.
type Place struct {
	After []byte `json:",omitempty"` // the page to go on behind
	Files int    `json:",omitempty"` // how many are there
	Over  bool   `json:",omitempty"`
}

// Bounds of an export.
const (
	// pageSize is how many resources are read at a time.
	pageSize = 5000
	// MaxLines is how many resources a file holds: what a crash throws away.
	MaxLines = 250_000
	// maxBuffer is when lines go to the file, in bytes.
	maxBuffer = 1 << 20
)

// Exporter carries out exports of one data store.
type Exporter struct {
	Store    store.Store
	Registry search.Registry
	Base     string // the store's, "https://host/datastore/id/r4"
	// Trim cuts a resource to elements, with what is mandatory.
	Trim   func(body []byte, t plan.Type, elements []string) ([]byte, error)
	Out    blob.Bucket
	Prefix string // of keys
	// Workers is how many types are written side by side, at least 1.
	Workers int
	// Lines bounds a file; 0 is MaxLines.
	Lines int64
	// Save keeps a State durably; it is called by one goroutine at a time.
	Save func(context.Context, State) error
	// Progress is told of resources written, from many goroutines.
	Progress func(done, total int64)
}

// run is one export under way.
type run struct {
	*Exporter
	req   Request
	arms  []plan.Arm
	named map[plan.Type][]string // elements, by type

	mu    sync.Mutex
	state State
	done  atomic.Int64
}

// Run exports from a State on (the zero one: from the beginning) and gives the
// last State.
func (e *Exporter) Run(ctx context.Context, req Request, from State) (State, error) {
	arms, err := e.arms(ctx, req)
	if err != nil {
		return from, err
	}
	r := &run{Exporter: e, req: req, arms: arms, state: from, named: map[plan.Type][]string{}}
	r.state.At = maps.Clone(from.At)
	if r.state.At == nil {
		r.state.At = map[string]Place{}
		if r.state.Total, err = r.count(ctx); err != nil {
			return from, err
		}
	}
	r.done.Store(from.Done)
	r.tell(0)
	r.elements()
	group, ctx2 := errgroup.WithContext(ctx)
	group.SetLimit(max(1, e.Workers))
	for _, arm := range arms {
		group.Go(func() error { return r.typ(ctx2, arm) })
	}
	if err := group.Wait(); err != nil {
		return r.state, err
	}
	if err := r.deleted(ctx); err != nil {
		return r.state, err
	}
	err = r.ignored(ctx)
	slices.SortStableFunc(r.state.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	return r.state, err
}

func (r *run) tell(n int64) {
	done := r.done.Add(n)
	if r.Progress != nil {
		r.Progress(done, max(done, r.state.Total))
	}
}

func (r *run) count(ctx context.Context) (int64, error) {
	view, err := r.Store.View(ctx, r.req.Moment)
	if err != nil {
		return 0, err
	}
	defer view.Close()
	return view.Count(ctx, &plan.Plan{Arms: r.arms})
}

// elements reads _elements: a bare name is of every type.
func (r *run) elements() {
	for _, name := range r.req.Elements {
		typ, element, qualified := strings.Cut(name, ".")
		for _, arm := range r.arms {
			if !qualified {
				r.named[arm.Type] = append(r.named[arm.Type], name)
			} else if r.Registry.Name(arm.Type) == typ {
				r.named[arm.Type] = append(r.named[arm.Type], element)
			}
		}
	}
}

// typ writes the files of one type.
func (r *run) typ(ctx context.Context, arm plan.Arm) error {
	name := r.Registry.Name(arm.Type)
	for {
		r.mu.Lock()
		at := r.state.At[name]
		r.mu.Unlock()
		if at.Over {
			return nil
		}
		file, next, err := r.file(ctx, arm, name, at)
		if err != nil {
			return err
		}
		if err := r.keep(ctx, name, file, Place{After: next, Files: at.Files + 1, Over: next == nil}); err != nil {
			return err
		}
	}
}

// keep notes that a file is there, unless it would have been empty.
func (r *run) keep(ctx context.Context, name string, file File, at Place) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.At[name] = at
	if file.Count > 0 {
		r.state.Files = append(r.state.Files, file)
		if file.Kind == Output {
			r.state.Done += file.Count
		}
	}
	kept := r.state
	kept.Files, kept.At = slices.Clone(kept.Files), maps.Clone(kept.At)
	return r.Save(ctx, kept)
}

// fileName is the name of the n-th file of a type.
func (r *run) fileName(kind Kind, typ string, n int) string {
	name := typ + "-" + strconv.Itoa(n) + ".ndjson"
	switch {
	case kind != Output && r.req.ByType:
		return string(kind) + "/" + name
	case kind != Output:
		return string(kind) + "-" + name
	case r.req.ByType:
		return typ + "/" + name
	}
	return name
}

// file writes one file of a type, and says behind which page the next begins.
func (r *run) file(ctx context.Context, arm plan.Arm, typ string, at Place) (f File, next []byte, err error) {
	w := r.begin(ctx, Output, typ, at.Files)
	defer w.abort()
	most := r.Lines
	if most == 0 {
		most = MaxLines
	}
	next = at.After
	for {
		page, err := r.page(ctx, arm, next)
		if err != nil {
			return f, nil, err
		}
		if page.Records, err = r.latest(ctx, page.Records); err != nil {
			return f, nil, err
		}
		for _, rec := range page.Records {
			if err := r.line(w, rec); err != nil {
				return f, nil, err
			}
		}
		r.tell(int64(len(page.Records)))
		if next = page.Next; next == nil || w.file.Count >= most {
			break
		}
	}
	err = w.commit()
	return w.file, next, err
}

func (r *run) page(ctx context.Context, arm plan.Arm, after []byte) (store.Page, error) {
	view, err := r.Store.View(ctx, r.req.Moment)
	if err != nil {
		return store.Page{}, err
	}
	defer view.Close()
	limit := pageSize
	if r.Lines > 0 {
		limit = int(min(r.Lines, pageSize))
	}
	return view.Search(ctx, &plan.Plan{Arms: []plan.Arm{arm}, After: after, Limit: limit})
}

func (r *run) line(w *writer, rec store.Record) error {
	if elements := r.named[rec.Key.Type]; elements != nil {
		whole := fhir.AppendResource(nil, rec.Body, rec.Key.ID, rec.Version, rec.Updated)
		part, err := r.Trim(whole, rec.Key.Type, elements)
		if err != nil {
			return err
		}
		w.buffer = append(w.buffer, part...)
	} else {
		before := len(w.buffer)
		if w.buffer = fhir.AppendResource(w.buffer, rec.Body, rec.Key.ID, rec.Version, rec.Updated); len(w.buffer) == before {
			return fhir.CheckStored(rec.Body)
		}
	}
	return w.end()
}

// deletedType is the type of the resources in files of what was deleted.
const deletedType = "Bundle"

// deleted lists what was deleted since the time that was asked for: a Bundle of
// type transaction on each line (Bulk Data Access, "Response - Complete Status").
func (r *run) deleted(ctx context.Context) error {
	if r.req.Since.IsZero() || r.state.At[""].Over {
		return nil
	}
	q := store.HistoryQuery{Low: r.req.Since, High: r.req.Until, Limit: pageSize}
	for _, arm := range r.arms {
		q.Types = append(q.Types, arm.Type)
	}
	if r.req.Level != System || len(r.req.All) > 0 {
		q.Where = timeless(r.arms)
	}
	w := r.begin(ctx, Deleted, deletedType, 0)
	defer w.abort()
	for {
		next, err := r.deletedPage(ctx, w, q)
		if err != nil {
			return err
		}
		if q.After = next; next == nil {
			break
		}
	}
	if err := w.commit(); err != nil {
		return err
	}
	return r.keep(ctx, "", w.file, Place{Files: 1, Over: true})
}

// timeless are arms without their condition on time: the deletion has its own.
func timeless(arms []plan.Arm) []plan.Arm {
	list := slices.Clone(arms)
	for i := range list {
		if all, ok := list[i].Where.(plan.And); ok {
			list[i].Where = slices.DeleteFunc(slices.Clone(all), isUpdated)
		} else if list[i].Where != nil && isUpdated(list[i].Where) {
			list[i].Where = nil
		}
	}
	return list
}

func isUpdated(n plan.Node) bool { _, is := n.(plan.Updated); return is }

func (r *run) deletedPage(ctx context.Context, w *writer, q store.HistoryQuery) ([]byte, error) {
	view, err := r.Store.View(ctx, r.req.Moment)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	page, err := view.History(ctx, q)
	if err != nil {
		return nil, err
	}
	for _, rec := range page.Records {
		if !rec.Deleted {
			continue
		}
		now, err := view.Get(ctx, rec.Key)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if err != nil || now.Version != rec.Version {
			continue
		}
		w.buffer = append(w.buffer, `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"DELETE","url":"`...)
		w.buffer = append(w.buffer, r.Registry.Name(rec.Key.Type)+"/"+rec.Key.ID+`"}}]}`...)
		if err := w.end(); err != nil {
			return nil, err
		}
	}
	return page.Next, nil
}

// ignored tells of the parameters that were passed over.
func (r *run) ignored(ctx context.Context) error {
	const key = "!"
	if len(r.req.Ignored) == 0 || r.state.At[key].Over {
		return nil
	}
	w := r.begin(ctx, Errors, "OperationOutcome", 0)
	defer w.abort()
	for _, what := range r.req.Ignored {
		w.buffer = fhir.AppendOutcome(w.buffer, fhir.OutcomeIssue{Severity: "warning", Code: "not-supported", Diagnostics: what + " is not supported and was passed over"})
		if err := w.end(); err != nil {
			return err
		}
	}
	if err := w.commit(); err != nil {
		return err
	}
	return r.keep(ctx, key, w.file, Place{Files: 1, Over: true})
}

// writer writes one file, which is begun with its first bytes.
type writer struct {
	ctx    context.Context
	out    blob.Bucket
	key    string
	to     blob.Writer
	buffer []byte
	file   File
}

func (r *run) begin(ctx context.Context, kind Kind, typ string, n int) *writer {
	name := r.fileName(kind, typ, n)
	return &writer{ctx: ctx, out: r.Out, key: r.Prefix + name, file: File{Kind: kind, Type: typ, Name: name}}
}

// end ends the line in the buffer.
func (w *writer) end() error {
	w.buffer = append(w.buffer, '\n')
	w.file.Count++
	if len(w.buffer) < maxBuffer {
		return nil
	}
	return w.flush()
}

func (w *writer) flush() (err error) {
	if len(w.buffer) == 0 {
		return nil
	}
	if w.to == nil {
		if w.to, err = w.out.Create(w.ctx, w.key); err != nil {
			return err
		}
	}
	n, err := w.to.Write(w.buffer)
	w.file.Bytes += int64(n)
	w.buffer = w.buffer[:0]
	return err
}

func (w *writer) commit() error {
	if err := w.flush(); err != nil || w.to == nil {
		return err
	}
	return w.to.Commit()
}

// abort leaves nothing of a file that is not committed. Why it is not is told by
// another error.
func (w *writer) abort() {
	if w.to != nil {
		_ = w.to.Abort()
	}
}

// ParseState reads a checkpoint; none is the zero State.
func ParseState(raw []byte) (s State, err error) {
	if len(raw) > 0 {
		err = json.Unmarshal(raw, &s)
	}
	return s, fault.Wrap(fault.Internal, "export.ParseState", err)
}
