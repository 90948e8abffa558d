package interaction

import (
	"context"
	"fmt"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
)

// maxSearchWork is how many rows one search may look at, unless SearchLimits say
// otherwise; beyond it the answer is a too-costly outcome, never a short list.
const maxSearchWork = 50_000_000

// SearchLimits bound one search. What reaches a limit is answered by a too-costly
// outcome.
type SearchLimits struct {
	Time time.Duration // 0: none
	Rows int64         // index rows and versions looked at; 0: maxSearchWork
}

func (l SearchLimits) rows() int64 {
	if l.Rows > 0 {
		return l.Rows
	}
	return maxSearchWork
}

// within gives the context that a search runs in.
func (l SearchLimits) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.Time <= 0 {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, l.Time)
}

// reached says which limit ended a search; a caller that has gone, or a deadline
// of its own, is none.
func (l SearchLimits) reached(ctx context.Context, err error) error {
	const hint = "ask for less: a more selective parameter, a smaller _count, _total=none"
	switch {
	case fault.Is(err, fault.Timeout) && l.Time > 0 && ctx.Err() == nil:
		return &fault.Error{Kind: fault.TooCostly, Op: "interaction.Search", Detail: fmt.Sprintf("the search takes longer than %v", l.Time), Hint: hint, Cause: err}
	case fault.Is(err, fault.TooCostly) && fault.From(err).Hint == "":
		told := *fault.From(err)
		told.Hint = hint
		return &told
	}
	return err
}

// SlowSearch is a search that took long: nothing in it is a client's value.
type SlowSearch struct {
	Shape   string // search.Query.Shape
	Took    time.Duration
	Found   int    // resources in the answer
	Refused string // the kind of fault, empty: it was answered
}

// watch is a search under way.
type watch struct {
	s     *Session
	q     *search.Query
	began time.Time
	found int
}

func (s *Session) watch(q *search.Query) *watch {
	w := &watch{s: s, q: q}
	if s.Slow != nil {
		w.began = s.Clock()
	}
	return w
}

// end reports the search when it was slow.
func (w *watch) end(err error) {
	if w.s.Slow == nil {
		return
	}
	took := w.s.Clock().Sub(w.began)
	if took < w.s.SlowFrom {
		return
	}
	slow := SlowSearch{Shape: w.q.Shape(w.s.Registry), Took: took, Found: w.found}
	if err != nil {
		slow.Refused = fault.From(err).Kind.String()
	}
	w.s.Slow(slow)
}
