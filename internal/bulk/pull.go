package bulk

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/fault"
)

// Pull says which files of Bulk Data exports an import fetches: those that a
// manifest names. Persisted as JSON.
type Pull struct {
	// URL is where the manifest is, or, unless Static, where the export that makes
	// it is started; empty when Files are given.
	URL    string     `json:",omitempty"`
	Static bool       `json:",omitempty"`
	Files  []PullFile `json:",omitempty"`
}

// PullFile is one file of a manifest.
type PullFile struct {
	Type string `json:"type"`
	URL  string `json:"url"`
}

// Sources fetches manifests and the files they name, from the origins that the
// configuration allows.
type Sources struct {
	Client *http.Client
	// Origins are what URLs may begin with, "https://host:port", and how to get the
	// bearer token for each; nil for none.
	Origins map[string]func() (string, error)
	// Pause waits between two looks at an export that another server makes.
	Pause func(ctx context.Context, d time.Duration) error
}

// Bounds of what is fetched: a manifest's size in bytes and files, how long is
// waited for the head of an answer's body, and between two looks at an export.
const (
	maxManifest  = 64 << 20
	maxRedirects = 5
	leastPause   = time.Second
	mostPause    = time.Minute
)

// Check refuses a request that could never be carried out: fault.Forbidden for an
// origin that is not allowed, fault.Invalid for what is no URL.
func (s *Sources) Check(p Pull) error {
	if p.URL != "" {
		_, err := s.origin(p.URL)
		return err
	}
	if len(p.Files) == 0 {
		return &fault.Error{Kind: fault.Invalid, Op: "bulk.Pull", Subject: "input", Detail: "no files are named"}
	}
	for _, f := range p.Files {
		if _, err := s.origin(f.URL); err != nil {
			return err
		}
	}
	return nil
}

// origin finds the allowed origin that a URL is of.
func (s *Sources) origin(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil {
		return "", &fault.Error{Kind: fault.Invalid, Op: "bulk.Pull", Subject: "url", Detail: "not an absolute URL"}
	}
	origin := u.Scheme + "://" + u.Host
	if _, allowed := s.Origins[origin]; !allowed {
		return "", &fault.Error{Kind: fault.Forbidden, Op: "bulk.Pull", Subject: origin, Detail: "the server may not fetch from there",
			Hint: "tarn serve --import-from allows an origin"}
	}
	return origin, nil
}

// get asks for a URL, with its origin's token; redirects stay within what is
// allowed, and each has its own origin's token.
func (s *Sources) get(ctx context.Context, text string, header http.Header) (*http.Response, error) {
	client := *s.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	for range maxRedirects {
		origin, err := s.origin(text)
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, text, nil)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, "bulk.Pull", err)
		}
		r.Header = header.Clone()
		if token := s.Origins[origin]; token != nil {
			bearer, err := token()
			if err != nil {
				return nil, fault.Wrap(fault.Unavailable, "bulk.Pull", err)
			}
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
		answer, err := client.Do(r)
		if err != nil {
			return nil, unreachable(ctx, err)
		}
		to, err := answer.Location()
		if answer.StatusCode < 300 || answer.StatusCode > 399 || err != nil {
			return answer, nil //nolint:nilerr // no redirect, or none that says where to: the answer's status tells
		}
		if err := answer.Body.Close(); err != nil {
			return nil, unreachable(ctx, err)
		}
		text = to.String()
	}
	return nil, fault.New(fault.Invalid, "bulk.Pull", "the source redirects more than %d times", maxRedirects)
}

func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fault.Wrap(fault.Canceled, "bulk.Pull", err)
	}
	return &fault.Error{Kind: fault.Unavailable, Op: "bulk.Pull", Detail: "the source does not answer", Cause: err}
}

// refusal gives an answer that is none the kind of fault it is.
func refusal(answer *http.Response) error {
	e := &fault.Error{Kind: fault.Unavailable, Op: "bulk.Pull", Subject: answer.Request.URL.Host, Detail: "the source answers " + answer.Status}
	switch code := answer.StatusCode; {
	case code == http.StatusNotFound || code == http.StatusGone:
		e.Kind = fault.NotFound
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		e.Kind = fault.Forbidden
	case code == http.StatusPreconditionFailed:
		e.Kind = fault.Conflict
	case code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout:
		e.Kind = fault.Invalid
	}
	return errors.Join(e, answer.Body.Close())
}

// files lists what a Pull names, in the order of the manifest. An export that has
// to be made first is waited for.
func (s *Sources) files(ctx context.Context, p Pull) ([]PullFile, error) {
	found := p.Files
	if p.URL != "" {
		raw, err := s.manifest(ctx, p)
		if err != nil {
			return nil, err
		}
		var manifest struct{ Output []PullFile }
		if err := json.Unmarshal(raw, &manifest); err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "bulk.Pull", Subject: "exportUrl", Detail: "no manifest is there", Cause: err}
		}
		found = manifest.Output
	}
	return found, s.Check(Pull{Files: found})
}

// manifest fetches a manifest, which an export may have to make first.
func (s *Sources) manifest(ctx context.Context, p Pull) ([]byte, error) {
	header := http.Header{"Accept": {"application/json"}}
	if !p.Static {
		header = http.Header{"Accept": {"application/fhir+json"}, "Prefer": {"respond-async"}}
	}
	at := p.URL
	for {
		answer, err := s.get(ctx, at, header)
		if err != nil {
			return nil, err
		}
		switch answer.StatusCode {
		case http.StatusOK:
			raw, err := io.ReadAll(io.LimitReader(answer.Body, maxManifest))
			if err = errors.Join(err, answer.Body.Close()); err != nil {
				return nil, unreachable(ctx, err)
			}
			return raw, nil
		case http.StatusAccepted:
		default:
			return nil, refusal(answer)
		}
		if next, err := answer.Request.URL.Parse(answer.Header.Get("Content-Location")); err == nil && answer.Header.Get("Content-Location") != "" {
			at, header = next.String(), http.Header{"Accept": {"application/json"}}
		}
		wait, _ := strconv.Atoi(answer.Header.Get("Retry-After")) // else the least
		if err := errors.Join(answer.Body.Close(), s.Pause(ctx, min(max(time.Duration(wait)*time.Second, leastPause), mostPause))); err != nil {
			return nil, unreachable(ctx, err)
		}
	}
}

// pulled are the files of an import that fetches them: its input, and the object
// of each, whose key is its URL.
func (s *Sources) pulled(ctx context.Context, p Pull) (blob.Bucket, []file, error) {
	found, err := s.files(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	if len(found) > maxFiles {
		return nil, nil, fault.New(fault.Invalid, "bulk.Pull", "the manifest has more than %d files", maxFiles)
	}
	files := make([]file, len(found))
	for i, f := range found {
		_, packing := formOf(pathOf(f.URL))
		files[i] = file{Object: blob.Object{Key: f.URL}, name: strconv.Itoa(i) + "-" + path.Base(pathOf(f.URL)), form: formLines, packing: packing}
	}
	return webSource{s}, files, nil
}

func pathOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	return u.Path
}

// webSource reads files by their URL.
type webSource struct{ *Sources }

// Check implements blob.Bucket.
func (webSource) Check(context.Context) error { return nil }

// List implements blob.Bucket: only a manifest lists files.
func (webSource) List(context.Context, string) iter.Seq2[blob.Object, error] {
	return func(func(blob.Object, error) bool) {}
}

// Open implements blob.Bucket.
func (w webSource) Open(ctx context.Context, key string, _ blob.Read) (io.ReadCloser, error) {
	answer, err := w.get(ctx, key, http.Header{"Accept": {"application/fhir+ndjson"}})
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, refusal(answer)
	}
	return fetched{ctx, answer.Body}, nil
}

// fetched gives faults of the connection their kind.
type fetched struct {
	ctx context.Context
	io.ReadCloser
}

// Read implements io.Reader.
func (f fetched) Read(p []byte) (int, error) {
	n, err := f.ReadCloser.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // the end, not one that is cut off
		err = unreachable(f.ctx, err)
	}
	return n, err
}

// Create implements blob.Bucket: nothing is written to a source.
func (webSource) Create(context.Context, string) (blob.Writer, error) { return nobody{}, nil }

// Delete implements blob.Bucket.
func (webSource) Delete(context.Context, string) error { return nil }

// nobody keeps nothing: the output of an import without a place for it, which is
// told of by its report alone.
type nobody struct{}

// Write implements io.Writer.
func (nobody) Write(p []byte) (int, error) { return len(p), nil }

// Commit implements blob.Writer.
func (nobody) Commit() error { return nil }

// Abort implements blob.Writer.
func (nobody) Abort() error { return nil }

// Origin reads an origin that files may be fetched from: "https://host:port".
func Origin(text string) (string, error) {
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Path != "" || u.RawQuery != "" || u.User != nil {
		return "", fault.New(fault.Invalid, "bulk.Origin", "%s is not the origin of a URL: use https://host:port", text)
	}
	return u.Scheme + "://" + u.Host, nil
}
