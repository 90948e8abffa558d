package smart

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Bounds of what is asked of issuers.
const (
	// MaxAnswerBytes is the size of an issuer's document: a key set with
	// certificates stays far below.
	MaxAnswerBytes = 1 << 20
	// maxRedirects is how many redirects, all to allowed hosts, are followed.
	maxRedirects = 3
	// fetchTimeout bounds one exchange with an issuer.
	fetchTimeout = 5 * time.Second
)

// origins are the servers that may be asked. What a data store's metadata names
// is somebody else's word: it decides which of them, never that one is asked.
type origins map[string]bool

// parseOrigins reads an allow list: "https://idp.example.org:8443",
// "http://localhost:9000", or a bare "idp.example.org", which means https.
func parseOrigins(list []string) (origins, error) {
	allowed := origins{}
	for _, entry := range list {
		text := entry
		if !strings.Contains(entry, "://") {
			text = "https://" + entry
		}
		u, err := url.Parse(text)
		if err != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || originOf(u) == "" {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "smart.parseOrigins", Subject: entry, Cause: err,
				Detail: "not the origin of an identity provider", Hint: "use https://host or https://host:port"}
		}
		allowed[originOf(u)] = true
	}
	return allowed, nil
}

// originOf is scheme://host:port in one form, "" where u has none.
func originOf(u *url.URL) string {
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	switch {
	case u.Hostname() == "" || u.User != nil || u.Opaque != "":
		return ""
	case scheme == "https" && port == "":
		port = "443"
	case scheme == "http" && port == "":
		port = "80"
	case scheme != "https" && scheme != "http":
		return ""
	}
	return scheme + "://" + net.JoinHostPort(strings.TrimSuffix(strings.ToLower(u.Hostname()), "."), port)
}

// fetcher asks allowed servers, and no others.
type fetcher struct {
	allowed origins
	client  *http.Client // follows redirects to allowed servers
	direct  *http.Client // follows none: for what carries a token or a secret
}

func newFetcher(rt http.RoundTripper, allowed origins) *fetcher {
	if rt == nil {
		rt = http.DefaultTransport
	}
	f := &fetcher{allowed: allowed}
	f.client = &http.Client{Transport: rt, Timeout: fetchTimeout, CheckRedirect: f.redirect}
	f.direct = &http.Client{Transport: rt, Timeout: fetchTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	return f
}

func (f *fetcher) redirect(r *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return errors.New("too many redirects")
	}
	return f.check(r.URL)
}

func (f *fetcher) check(u *url.URL) error {
	if !f.allowed[originOf(u)] {
		return fmt.Errorf("%s://%s is not among the identity providers that this server's configuration allows", u.Scheme, u.Host)
	}
	return nil
}

// get fetches a document, and how long its server says that it is good; 0 is
// not said.
func (f *fetcher) get(ctx context.Context, address string) ([]byte, time.Duration, error) {
	r, err := f.request(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, 0, err
	}
	body, header, err := f.do(f.client, r)
	return body, maxAge(header), err
}

// post sends a form and gives the answer; redirects are not followed.
func (f *fetcher) post(ctx context.Context, address string, form url.Values, user *url.Userinfo) ([]byte, error) {
	r, err := f.request(ctx, http.MethodPost, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if user != nil {
		// RFC 6749 section 2.3.1: both parts are form-encoded first.
		secret, _ := user.Password()
		r.SetBasicAuth(url.QueryEscape(user.Username()), url.QueryEscape(secret))
	}
	body, _, err := f.do(f.direct, r)
	return body, err
}

func (f *fetcher) request(ctx context.Context, method, address string, body io.Reader) (*http.Request, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if err := f.check(u); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err == nil {
		r.Header.Set("Accept", "application/json")
	}
	return r, err
}

func (f *fetcher) do(client *http.Client, r *http.Request) (body []byte, header http.Header, err error) {
	answer, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, answer.Body.Close()) }()
	if answer.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s %s answered %s", r.Method, r.URL.Redacted(), answer.Status)
	}
	body, err = io.ReadAll(io.LimitReader(answer.Body, MaxAnswerBytes+1))
	if err == nil && len(body) > MaxAnswerBytes {
		err = fmt.Errorf("%s answered more than %d bytes", r.URL.Redacted(), MaxAnswerBytes)
	}
	return body, answer.Header, err
}

// maxAge is Cache-Control's max-age (RFC 9111 section 5.2.2.1).
func maxAge(h http.Header) time.Duration {
	for part := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		text, found := strings.CutPrefix(strings.ToLower(strings.TrimSpace(part)), "max-age=")
		if d, err := time.ParseDuration(strings.Trim(text, `"`) + "s"); found && err == nil && d > 0 {
			return d
		}
	}
	return 0
}
