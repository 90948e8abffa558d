package peer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// Bounds of the batches that fill another server.
const (
	fillEntries = 200
	MaxLine     = 64 << 20 // of one resource, in bytes
)

// Fill writes resources under their ids, by batches of PUT, each of which must
// succeed. So many clients send at once.
func (s *Server) Fill(ctx context.Context, parts []synthea.Part, clients int) error {
	sending, ctx := errgroup.WithContext(ctx)
	sending.SetLimit(clients)
	for _, part := range parts {
		if err := s.fillPart(ctx, sending, part); err != nil {
			if failed := sending.Wait(); failed != nil {
				return failed // what was read no further for
			}
			return fmt.Errorf("%s: %w", part.Name, err)
		}
	}
	return sending.Wait()
}

func (s *Server) fillPart(ctx context.Context, sending *errgroup.Group, part synthea.Part) error {
	stream, err := part.Open(ctx)
	if err != nil {
		return err
	}
	defer stream.Close() // it was only read
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, MaxLine)
	var entries []string
	for more := true; more && ctx.Err() == nil; {
		if more = lines.Scan(); more {
			entry, err := putEntry(lines.Bytes())
			if err != nil {
				return err
			}
			entries = append(entries, entry)
		}
		if len(entries) == fillEntries || !more && len(entries) > 0 {
			batch := entries
			sending.Go(func() error { return s.batch(ctx, batch) })
			entries = nil
		}
	}
	return lines.Err()
}

func putEntry(resource []byte) (string, error) {
	var of struct{ ResourceType, ID string }
	if err := json.Unmarshal(resource, &of); err != nil {
		return "", err
	}
	return fmt.Sprintf(`{"resource":%s,"request":{"method":"PUT","url":"%s/%s"}}`, resource, of.ResourceType, of.ID), nil
}

// batch sends entries.
func (s *Server) batch(ctx context.Context, entries []string) error {
	body := `{"resourceType":"Bundle","type":"batch","entry":[` + strings.Join(entries, ",") + `]}`
	got, err := s.ask(ctx, process.Request{
		Method: http.MethodPost, URL: s.Base, Body: []byte(body), Header: map[string]string{"Content-Type": "application/fhir+json"},
	})
	if err != nil {
		return err
	}
	var bundle struct {
		Entry []struct {
			Response struct{ Status string }
		}
	}
	if err := json.Unmarshal(got.body, &bundle); err != nil || got.status != http.StatusOK || len(bundle.Entry) != len(entries) {
		return fmt.Errorf("a batch was answered with status %d: %.300s", got.status, got.body)
	}
	for i, e := range bundle.Entry {
		if !strings.HasPrefix(e.Response.Status, "2") {
			return fmt.Errorf("%.100s: %s", entries[i], e.Response.Status)
		}
	}
	return nil
}
