package awsapi

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/store"
)

// Operations for looking after data stores, beside the model as those of
// operator.go.

// checkAnswer is what CheckDatastore found.
type checkAnswer struct {
	DatastoreId string
	Rows        int64
	Postings    int64
	Files       int64
	Problems    []checkProblem
	More        int64 `json:",omitempty"`
}

type checkProblem struct{ Part, What string }

func (c checkAnswer) about() string { return c.DatastoreId }

func checked(id string, r store.Report) checkAnswer {
	out := checkAnswer{DatastoreId: id, Rows: r.Rows, Postings: r.Postings, Files: r.Files, More: r.More, Problems: []checkProblem{}}
	for _, p := range r.Problems {
		out.Problems = append(out.Problems, checkProblem(p))
	}
	return out
}

// checkDatastore answers when the check is done, which takes minutes for many
// millions of resources.
func (a *API) checkDatastore(ctx context.Context, in *datastoreIDRequest) (checkAnswer, error) {
	if err := in.check(); err != nil {
		return checkAnswer{}, err
	}
	report, err := a.Plane.Check(ctx, value(in.DatastoreId))
	return checked(value(in.DatastoreId), report), err
}

type doneAnswer struct{ DatastoreId string }

func (d doneAnswer) about() string { return d.DatastoreId }

func (a *API) compactDatastore(ctx context.Context, in *datastoreIDRequest) (doneAnswer, error) {
	if err := in.check(); err != nil {
		return doneAnswer{}, err
	}
	return doneAnswer{value(in.DatastoreId)}, a.Plane.Compact(ctx, value(in.DatastoreId))
}

// rotateDatastoreKey begins the exchange of a store's data key; its job is
// described by DescribeJob.
func (a *API) rotateDatastoreKey(ctx context.Context, in *datastoreIDRequest) (startJobAnswer, error) {
	if err := in.check(); err != nil {
		return startJobAnswer{}, err
	}
	j, err := a.Plane.RotateKey(ctx, value(in.DatastoreId))
	if err != nil {
		return startJobAnswer{}, err
	}
	return startJobAnswer{j.ID, string(j.Status), j.Datastore}, nil
}
