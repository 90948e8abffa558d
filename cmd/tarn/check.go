package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/reindex"
	"github.com/tarn-fhir/tarn/internal/store"
)

// checkCommand looks data stores through. By itself it opens the stores in the
// data folder, for which no server may run there; with --running it asks the
// server to do it, while it serves.
type checkCommand struct {
	stopped
	IDs     []string `arg:"" optional:"" name:"id" help:"Data store ids; none: all, and the server's own records (system)."`
	Repair  bool     `help:"Write again what can be derived (whatever finds resources) where it is damaged."`
	Running bool     `help:"Ask the running server at --endpoint, instead of opening the folder."`

	Endpoint  string `help:"Where the server answers, for --running." default:"http://127.0.0.1:8080" env:"TARN_ENDPOINT"`
	AccessKey string `help:"Access key id, for --running; else the credentials file's." env:"TARN_ROOT_ACCESS_KEY_ID"`
	SecretKey string `help:"Secret access key, for --running." env:"TARN_ROOT_SECRET_ACCESS_KEY"`
	Output    string `help:"How to print: ${enum}." enum:"table,json" default:"table" env:"TARN_OUTPUT"`
}

// checkResult is one store's report as it is printed.
type checkResult struct {
	DatastoreId string
	store.Report
	Error string `json:",omitempty"` // why the store could not be looked through
}

// Run checks, and fails when a problem is left.
func (c *checkCommand) Run(ctx context.Context) error {
	var results []checkResult
	var err error
	switch {
	case c.Running && c.Repair:
		return errors.New("--repair needs the server to be stopped: nobody may write meanwhile")
	case c.Running:
		results, err = c.ask(ctx)
	default:
		results, err = c.look(ctx)
	}
	if err != nil {
		return err
	}
	if c.Output == "json" {
		for i := range results {
			if results[i].Problems == nil {
				results[i].Problems = []store.Problem{}
			}
		}
		err = printJSON(results)
	} else {
		c.print(results)
	}
	for _, r := range results {
		if r.Error != "" || !r.Sound() {
			return errors.Join(err, errors.New("problems were found"))
		}
	}
	return err
}

func (c *checkCommand) print(results []checkResult) {
	for _, r := range results {
		if r.Error != "" {
			fmt.Printf("%s: cannot be opened: %s\n", r.DatastoreId, r.Error)
			continue
		}
		fmt.Printf("%s: %d rows, %d postings, %d files, %d problems", r.DatastoreId, r.Rows, r.Postings, r.Files, int64(len(r.Problems))+r.More)
		if r.Mended > 0 {
			fmt.Printf(" left, %d entries mended", r.Mended)
		}
		fmt.Println()
		for _, p := range r.Problems {
			fmt.Println("  " + p.String())
		}
		if r.Reindex && c.Repair {
			fmt.Println("  its resources are indexed anew as soon as a server uses it")
		}
		if r.More > 0 {
			fmt.Printf("  and %d more\n", r.More)
		}
	}
}

// look opens the stores of the data folder.
func (c *checkCommand) look(ctx context.Context) ([]checkResult, error) {
	h, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer h.close()
	ids := c.IDs
	if len(ids) == 0 {
		if ids, err = h.ids(ctx); err != nil {
			return nil, err
		}
		ids = append(ids, string(systemStore))
	}
	results := make([]checkResult, len(ids))
	for i, id := range ids {
		results[i].DatastoreId = id
		report, err := c.one(ctx, h, id)
		if err != nil && ctx.Err() != nil {
			return nil, err
		}
		if err != nil {
			results[i].Error = said(err)
		}
		results[i].Report = report
	}
	return results, nil
}

func (c *checkCommand) one(ctx context.Context, h *house, id string) (store.Report, error) {
	s := h.system
	if id != string(systemStore) {
		lease, err := h.plane.Inspect(ctx, id)
		if err != nil {
			return store.Report{}, err
		}
		defer h.plane.Discard(id)
		defer lease.Release()
		s = lease.Store
	}
	if c.Repair {
		if power, ok := s.(store.Repairer); ok {
			report, err := power.Repair(ctx)
			if err == nil && report.Reindex && id != string(systemStore) {
				err = reindex.Again(ctx, s)
			}
			return report, err
		}
	} else if power, ok := s.(store.Checker); ok {
		return power.Check(ctx)
	}
	return store.Report{}, fault.New(fault.NotSupported, "check", "the storage engine cannot do this")
}

// ask lets the server look.
func (c *checkCommand) ask(ctx context.Context) ([]checkResult, error) {
	conn := connection{Endpoint: c.Endpoint, Data: c.DataDir, Region: c.Region, AccessKey: c.AccessKey, SecretKey: c.SecretKey}
	ids := c.IDs
	if len(ids) == 0 {
		var err error
		if ids, err = conn.activeIDs(ctx); err != nil {
			return nil, err
		}
	}
	results := make([]checkResult, len(ids))
	for i, id := range ids {
		results[i].DatastoreId = id
		if err := conn.call(ctx, "CheckDatastore", map[string]string{"DatastoreId": id}, &results[i]); err != nil {
			results[i].Error = err.Error()
		}
	}
	return results, nil
}

type compactCommand struct {
	connection
	ID string `arg:"" help:"Data store id."`
}

// Run asks the server to put a store's files into order.
func (c *compactCommand) Run(ctx context.Context) error {
	var done struct{ DatastoreId string }
	return c.call(ctx, "CompactDatastore", map[string]string{"DatastoreId": c.ID}, &done)
}
