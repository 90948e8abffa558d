package interaction

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// batchWidth is how many entries of a batch are carried out side by side: they
// are independent by definition, and the store commits them in groups.
const batchWidth = 32

// batch carries out independent entries; one that fails fails alone.
func (s *Session) batch(ctx context.Context, items fhir.Node) (*BundleAnswer, error) {
	answers := make([]fhir.BundleEntry, items.Len())
	each := s.sharing()
	places := sync.OnceValue(func() [][2]int { return starts(items) })
	var read readings
	slots := make(chan struct{}, batchWidth)
	var wg sync.WaitGroup
	at := 0
	for item := range items.Items() {
		slots <- struct{}{}
		wg.Add(1)
		go func(at int) {
			defer func() { <-slots; wg.Done() }()
			answers[at] = each.batchEntry(ctx, at, item, places, &read)
		}(at)
		at++
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return s.respond("batch-response", answers), nil
}

// sharing is the session for use by several goroutines at once.
func (s *Session) sharing() *Session {
	shared := *s
	var mu sync.Mutex
	shared.Touched = func(t audit.Target) {
		mu.Lock()
		defer mu.Unlock()
		s.Touched(t)
	}
	return &shared
}

func (s *Session) batchEntry(ctx context.Context, at int, item fhir.Node, places func() [][2]int, read *readings) fhir.BundleEntry {
	e, err := s.readEntry(at, item)
	if err != nil {
		return failedEntry(err)
	}
	e.starts = places
	if e.isRead() || e.target.operation != "" {
		if err := read.full(); err != nil && e.isRead() {
			return failedEntry(err)
		}
		out, err := s.get(ctx, e)
		if err == nil && e.isRead() {
			err = read.add(len(out.Resource))
		}
		if err != nil {
			return failedEntry(err)
		}
		return out
	}
	v, err := s.single(ctx, e)
	if err != nil {
		return failedEntry(e.placed(err))
	}
	return s.wroteEntry(v)
}

// maxRead bounds what the reading entries of one bundle give back together, in
// bytes: as much as a bundle may bring.
const maxRead = 128 << 20

// readings counts what reading entries give back.
type readings struct{ bytes atomic.Int64 }

// add says fault.TooCostly when it becomes too much; what is added then counts
// no more.
func (r *readings) add(bytes int) error {
	if r.bytes.Add(int64(bytes)) <= maxRead {
		return nil
	}
	r.bytes.Add(-int64(bytes))
	return readTooMuch()
}

// full says so before an entry is carried out.
func (r *readings) full() error {
	if r.bytes.Load() < maxRead {
		return nil
	}
	return readTooMuch()
}

func readTooMuch() error {
	return &fault.Error{Kind: fault.TooCostly, Op: "interaction.readings",
		Detail: fmt.Sprintf("the bundle reads more than %d bytes", maxRead), Hint: "read in several bundles, or less with _count and _elements"}
}

// single carries out a writing entry as if it had come alone.
func (s *Session) single(ctx context.Context, e *entry) (*Version, error) {
	t, body := e.target, e.resource.Raw()
	switch {
	case e.method == "POST":
		return s.Create(ctx, CreateRequest{Type: t.typ, Body: body, IfNoneExist: e.none})
	case e.method == "PUT" && t.id != "":
		return s.Update(ctx, t.typ, t.id, body, e.match)
	case e.method == "PUT":
		return s.UpdateWhere(ctx, t.typ, t.query, body, e.match)
	case e.method == "PATCH" && t.id != "":
		return s.Patch(ctx, t.typ, t.id, e.operations, e.match)
	case e.method == "PATCH":
		return s.PatchWhere(ctx, t.typ, t.query, e.operations, e.match)
	case t.id != "":
		return s.Delete(ctx, t.typ, t.id, e.match)
	}
	return s.DeleteWhere(ctx, t.typ, t.query, e.match)
}

func (s *Session) respond(kind string, answers []fhir.BundleEntry) *BundleAnswer {
	w := fhir.NewBundle(nil, kind)
	flawed := false
	for _, a := range answers {
		w.Entry(a)
		flawed = flawed || s.Level == validate.Minimal && a.Response.Status[0] == '2' && bytes.Contains(a.Response.Outcome, warning)
	}
	return &BundleAnswer{Body: w.Finish(), Flawed: flawed}
}

// warning is in an outcome that has one: inside of texts the quotes are escaped.
var warning = []byte(`"severity":"warning"`)

func statusLine(code int) string {
	return strconv.Itoa(code) + " " + http.StatusText(code)
}
