package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/job"
)

// storeImports is import jobs of one data store: interaction.Imports.
type storeImports struct {
	*bulk.Imports
	datastore string
}

// StartPull makes the job.
func (s storeImports) StartPull(ctx context.Context, ask interaction.PullAsk) (string, error) {
	pull := &bulk.Pull{URL: ask.URL, Static: ask.Static}
	for _, f := range ask.Files {
		pull.Files = append(pull.Files, bulk.PullFile(f))
	}
	j, err := s.Start(ctx, bulk.ImportRequest{Datastore: s.datastore, Level: ask.Level, Pull: pull})
	if err != nil {
		return "", err
	}
	return j.ID, nil
}

// GetPull gives a job of this data store.
func (s storeImports) GetPull(ctx context.Context, id string) (*interaction.Pull, error) {
	j, err := s.Jobs.Get(ctx, id)
	var ask bulk.ImportRequest
	if err == nil && j.Kind == bulk.KindImport && j.Datastore == s.datastore {
		err = fault.Wrap(fault.Internal, "storeImports.GetPull", json.Unmarshal(j.Input, &ask))
	}
	if err == nil && ask.Pull == nil || fault.Is(err, fault.NotFound) {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "storeImports.GetPull", Subject: id, Detail: "no such import"}
	}
	if err != nil {
		return nil, err
	}
	return pullOf(j)
}

func pullOf(j *job.Job) (*interaction.Pull, error) {
	var r bulk.ImportReport
	if len(j.Progress) > 0 {
		if err := json.Unmarshal(j.Progress, &r); err != nil {
			return nil, fault.Wrap(fault.Internal, "pullOf", err)
		}
	}
	p := &interaction.Pull{
		Status: j.Status, Submitted: j.SubmittedAt, Ended: j.EndedAt, Message: j.Message,
		Files: r.ScannedFiles, Read: r.ImportedFiles, Faulty: r.FaultyFiles, Scanned: r.Scanned, Imported: r.Imported, Refused: r.CustomerErrors,
	}
	for _, e := range r.Errors {
		p.Errors = append(p.Errors, fmt.Sprintf("%s, line %d: %s", e.File, e.Line, e.Message))
	}
	return p, nil
}

// CancelPull stops a job; what it brought stays.
func (s storeImports) CancelPull(ctx context.Context, id string) error {
	_, err := s.Jobs.Cancel(ctx, id)
	return err
}

// headTimeout is how long a source may take to begin an answer.
const headTimeout = time.Minute

// sources are where $import may fetch from: origins, each with a file that holds
// a bearer token where it wants one.
func (c *serveCommand) sources() (*bulk.Sources, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = headTimeout
	s := &bulk.Sources{Client: &http.Client{Transport: transport}, Origins: map[string]func() (string, error){}, Pause: wait}
	for _, text := range c.ImportFrom {
		from, file, authorized := strings.Cut(text, "=")
		origin, err := bulk.Origin(from)
		if err != nil {
			return nil, fmt.Errorf("--import-from: %w", err)
		}
		s.Origins[origin] = nil
		if authorized {
			s.Origins[origin] = func() (string, error) {
				raw, err := os.ReadFile(file)
				return strings.TrimSpace(string(raw)), err
			}
		}
	}
	return s, nil
}

// wait passes some time, unless ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
