package interaction

import (
	"context"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// CreateRequest is a create.
type CreateRequest struct {
	Type string
	Body []byte
	// IfNoneExist are the criteria of a conditional create; empty is none.
	IfNoneExist string
	// Idempotency is HealthLake's x-amz-fhir-idempotency-key, a UUID; empty is
	// none.
	Idempotency string
}

// Create stores a new resource under an id of the server's (R4
// http.html#create); an id in the body is not looked at. A conditional create
// makes nothing where one resource matches and gives that one, Changed false;
// several are fault.MultipleMatches. An idempotency key that was used before is
// *DuplicateKey.
func (s *Session) Create(ctx context.Context, req CreateRequest) (*Version, error) {
	t, err := s.typ(req.Type)
	if err != nil {
		return nil, err
	}
	if _, err := s.granted(t, search.Create); err != nil {
		return nil, err
	}
	doc, err := s.parse(req.Body, req.Type)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	id, err := s.NewID()
	if err != nil {
		return nil, err
	}
	op, issues, err := s.put(ctx, plan.Key{Type: t, ID: id}, doc, tagCreate, store.Condition{Kind: store.Never})
	if err != nil {
		return nil, err
	}
	c := creation{Session: s, ops: []store.Op{op}, draft: s.draft(op, doc.Root()), issues: issues}
	if err := c.conditions(ctx, req); err != nil {
		return nil, err
	}
	return c.carryOut(ctx)
}

// creation is a create that is ready to be committed.
type creation struct {
	*Session
	ops    []store.Op // the resource; with an idempotency key, its document first
	draft  *draft
	issues []fault.Issue
}

func (c *creation) conditions(ctx context.Context, req CreateRequest) error {
	op := &c.ops[0]
	if req.IfNoneExist != "" {
		none, err := c.criteria(ctx, op.Key.Type, req.IfNoneExist)
		if err != nil {
			return err
		}
		op.If = append(op.If, store.Condition{Kind: store.Matches, Plan: none})
	}
	if req.Idempotency == "" {
		return nil
	}
	kept, err := idempotencyOp(req.Idempotency, c.Owner, op.Key)
	c.ops = []store.Op{kept, *op}
	return err
}

func (c *creation) carryOut(ctx context.Context) (*Version, error) {
	for range maxRaces {
		guard, err := c.holdNow(ctx, c.draft, search.Create)
		if err != nil {
			return nil, err
		}
		ops := guarded(guard, c.ops...)
		last := len(ops) - 1
		out, err := c.Store.Commit(ctx, ops)
		failed, no := unmet(err)
		switch {
		case err == nil:
			v := c.made(ops[last], out[last])
			v.Issues = c.issues
			return v, nil
		case !no:
			return nil, err
		case failed.Op < last && ops[failed.Op].Kind == store.Put:
			return nil, c.duplicate(ctx, c.ops[0].Key)
		case len(failed.Matched) > 1:
			return nil, manyMatch()
		case len(failed.Matched) == 1:
			found, err := c.existing(ctx, failed.Matched[0])
			if !fault.Is(err, fault.Gone) { // else it was deleted meanwhile
				return found, err
			}
		}
	}
	return nil, raced()
}

// existing is what a conditional create found.
func (s *Session) existing(ctx context.Context, key plan.Key) (*Version, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	return s.readIn(ctx, view, key)
}

func manyMatch() error {
	return &fault.Error{Kind: fault.MultipleMatches, Op: "interaction", Hint: "make the criteria more selective"}
}

// criteria compiles the criteria of a conditional interaction: unknown
// parameters and empty criteria are refused, whatever handling asks for.
func (s *Session) criteria(ctx context.Context, t plan.Type, query string) (*plan.Plan, error) {
	if _, err := s.granted(t, search.Search); err != nil {
		return nil, err
	}
	pairs, err := search.ParsePairs(strings.TrimPrefix(query, "?"))
	if err != nil {
		return nil, err
	}
	q, err := search.Parse(s.Registry, []plan.Type{t}, pairs, search.Options{Conditional: true, Base: s.Base + "/"})
	if err != nil {
		return nil, err
	}
	return q.Compile(s.env(ctx, nil))
}
