package sigv4_test

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// parseRequest reads a request as text, line ends \n, and more leniently than
// net/http: the official vectors have spaces and UTF-8 in their request lines
// and folded headers, as some other server might pass them on.
func parseRequest(t testing.TB, text string) (*http.Request, []byte) {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	requestLine, headers, _ := strings.Cut(strings.TrimSuffix(head, "\n"), "\n")
	method, rest, _ := strings.Cut(requestLine, " ")
	end := strings.LastIndex(rest, " ")
	if end < 0 {
		t.Fatalf("no request line: %q", requestLine)
	}
	r := &http.Request{Method: method, RequestURI: rest[:end], Header: http.Header{}, Proto: rest[end+1:]}
	path, query, _ := strings.Cut(r.RequestURI, "?")
	r.URL = &url.URL{Path: path, RawQuery: query}
	name := ""
	for line := range strings.Lines(headers) {
		line = strings.TrimSuffix(line, "\n")
		if folded := strings.TrimLeft(line, " \t"); folded != line {
			last := r.Header[name]
			last[len(last)-1] += " " + folded
			continue
		}
		var value string
		name, value, _ = strings.Cut(line, ":")
		name = textproto.CanonicalMIMEHeaderKey(name)
		r.Header[name] = append(r.Header[name], strings.TrimLeft(value, " "))
	}
	r.Host = r.Header.Get("Host")
	r.Header.Del("Host")
	if length := r.Header.Get("Content-Length"); length != "" {
		r.ContentLength, _ = strconv.ParseInt(length, 10, 64)
		r.Header.Del("Content-Length")
	}
	return r, []byte(body)
}
