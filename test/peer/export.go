package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// ErrNoExport is that a server does not offer $export over all it has.
var ErrNoExport = errors.New("the server does not offer $export")

// pollEvery is how often the status of an export is asked for, whatever
// Retry-After says: the time it takes is what is measured.
const pollEvery = 100 * time.Millisecond

// Export has the server export everything (Bulk Data Access 2.0, $export), and
// gives how long that took until the manifest was there, and how many resources
// its files hold. Without the operation it is ErrNoExport.
func (s *Server) Export(ctx context.Context) (took time.Duration, resources int, err error) {
	began := time.Now()
	status, err := s.kickOff(ctx)
	if err != nil {
		return 0, 0, err
	}
	files, err := s.await(ctx, status)
	if err != nil {
		return 0, 0, err
	}
	took = time.Since(began)
	for _, url := range files {
		got, err := s.ask(ctx, process.Request{Method: http.MethodGet, URL: url, Header: map[string]string{"Accept": "application/fhir+ndjson"}})
		if err != nil {
			return 0, 0, err
		}
		if got.status != http.StatusOK {
			return 0, 0, fmt.Errorf("%s is answered with %d: %.300s", url, got.status, got.body)
		}
		resources += linesOf(got.body)
	}
	return took, resources, nil
}

// kickOff begins an export and gives the URL of its status.
func (s *Server) kickOff(ctx context.Context) (string, error) {
	got, err := s.ask(ctx, process.Request{
		Method: http.MethodGet, URL: s.Base + "/$export",
		Header: map[string]string{"Accept": "application/fhir+json", "Prefer": "respond-async"},
	})
	if err != nil {
		return "", err
	}
	if got.status != http.StatusAccepted {
		return "", fmt.Errorf("%w: status %d: %.200s", ErrNoExport, got.status, got.body)
	}
	return got.header.Get("Content-Location"), nil
}

// await waits for the manifest and gives the URLs of its files.
func (s *Server) await(ctx context.Context, status string) (files []string, err error) {
	for {
		got, err := s.ask(ctx, process.Request{Method: http.MethodGet, URL: status, Header: map[string]string{"Accept": "application/json"}})
		switch {
		case err != nil:
			return nil, err
		case got.status == http.StatusOK:
			return filesOf(got.body)
		case got.status != http.StatusAccepted:
			return nil, fmt.Errorf("the export's status is answered with %d: %.300s", got.status, got.body)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pollEvery):
		}
	}
}

func filesOf(manifest []byte) (files []string, err error) {
	var m struct{ Output []struct{ URL string } }
	if err := json.Unmarshal(manifest, &m); err != nil {
		return nil, err
	}
	for _, o := range m.Output {
		files = append(files, o.URL)
	}
	return files, nil
}

// linesOf counts the lines of NDJSON, whose last one may have no end.
func linesOf(file []byte) int {
	n := bytes.Count(file, []byte{'\n'})
	if len(file) > 0 && file[len(file)-1] != '\n' {
		n++
	}
	return n
}
