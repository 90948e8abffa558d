// Package peer speaks with another FHIR server that Tarn is measured beside: it
// fills it and exports from it, by what R4 and Bulk Data Access offer everywhere.
package peer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// Headers are what requests to another server carry, as in "Authorization: Basic …".
// They are a flag that may be given several times.
type Headers [][2]string

// String implements flag.Value. Values may be secrets.
func (h *Headers) String() string { return fmt.Sprintf("%d headers", len(*h)) }

// Set implements flag.Value.
func (h *Headers) Set(text string) error {
	name, value, found := strings.Cut(text, ":")
	if !found {
		return fmt.Errorf("%q is not in the form 'Name: value'", text)
	}
	*h = append(*h, [2]string{strings.TrimSpace(name), strings.TrimSpace(value)})
	return nil
}

// Unsigned makes a request that carries them and no signature.
func (h *Headers) Unsigned(ctx context.Context, r process.Request) (*http.Request, error) {
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

// Server is another server. Its Base has no slash at its end.
type Server struct {
	Base    string
	Headers Headers
	Client  *http.Client
}

// At gives the server at a base URL.
func At(base string, headers Headers) *Server {
	return &Server{Base: strings.TrimRight(base, "/"), Headers: headers, Client: http.DefaultClient}
}

// answer is what came back, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// own reports whether a URL is of the server itself. An export's files may lie
// elsewhere, where nobody is to learn the server's secrets.
func (s *Server) own(of string) bool {
	base, err1 := url.Parse(s.Base)
	at, err2 := url.Parse(of)
	return err1 == nil && err2 == nil && base.Scheme == at.Scheme && base.Host == at.Host
}

// ask sends a request to a URL and reads the answer.
func (s *Server) ask(ctx context.Context, r process.Request) (answer, error) {
	headers := s.Headers
	if !s.own(r.URL) {
		headers = nil
	}
	made, err := headers.Unsigned(ctx, r)
	if err != nil {
		return answer{}, err
	}
	got, err := s.Client.Do(made)
	if err != nil {
		return answer{}, err
	}
	defer got.Body.Close() // it is read to its end, or that failed
	body, err := io.ReadAll(got.Body)
	return answer{got.StatusCode, got.Header, body}, err
}
