package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// headers are what requests to another server carry.
type headers [][2]string

// String implements flag.Value.
func (h *headers) String() string { return fmt.Sprintf("%d headers", len(*h)) }

// Set implements flag.Value.
func (h *headers) Set(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found {
		return fmt.Errorf("%q is not in the form 'Name: value'", text)
	}
	*h = append(*h, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	return nil
}

// unsigned makes a request that carries them and no signature.
func (h *headers) unsigned(ctx context.Context, r process.Request) (*http.Request, error) {
	made, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range r.Header {
		made.Header.Set(name, value)
	}
	for _, one := range *h {
		made.Header.Set(one[0], one[1])
	}
	return made, nil
}

// Bounds of the batches that fill another server.
const (
	fillEntries = 200
	fillLine    = 64 << 20 // bytes of one resource
)

// fill writes a source's resources under their ids, by batches of PUT, and
// prints how fast that was.
func (t *target) fill(ctx context.Context, source synthea.Source, out io.Writer) error {
	parts, err := source.Parts(ctx)
	if err != nil {
		return err
	}
	began, count := time.Now(), synthea.Count(parts)
	for _, part := range parts {
		if err := t.fillPart(ctx, part); err != nil {
			return fmt.Errorf("%s: %w", part.Name, err)
		}
	}
	took := time.Since(began)
	_, err = fmt.Fprintf(out, "%s filled by batches: %d resources in %.2f s, %.0f a second\n", t.name, count.Resources, took.Seconds(), float64(count.Resources)/took.Seconds())
	return err
}

func (t *target) fillPart(ctx context.Context, part synthea.Part) (err error) {
	stream, err := part.Open(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	lines.Buffer(nil, fillLine)
	var entries []string
	for more := true; more; {
		if more = lines.Scan(); more {
			entry, err := putEntry(lines.Bytes())
			if err != nil {
				return err
			}
			entries = append(entries, entry)
		}
		if len(entries) == fillEntries || !more && len(entries) > 0 {
			if err := t.batch(ctx, entries); err != nil {
				return err
			}
			entries = entries[:0]
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

// batch sends entries, each of which must succeed.
func (t *target) batch(ctx context.Context, entries []string) error {
	body := `{"resourceType":"Bundle","type":"batch","entry":[` + strings.Join(entries, ",") + `]}`
	answer, err := t.ask(ctx, process.Request{Method: http.MethodPost, URL: "", Body: []byte(body), Header: map[string]string{"Content-Type": "application/fhir+json"}})
	if err != nil {
		return err
	}
	var bundle struct {
		Entry []struct {
			Response struct{ Status string }
		}
	}
	if err := json.Unmarshal(answer.Body, &bundle); err != nil || answer.Status != http.StatusOK {
		return fmt.Errorf("a batch was answered with status %d: %.300s", answer.Status, answer.Body)
	}
	for i, e := range bundle.Entry {
		if !strings.HasPrefix(e.Response.Status, "2") {
			return fmt.Errorf("%.100s: %s", entries[i], e.Response.Status)
		}
	}
	return nil
}
