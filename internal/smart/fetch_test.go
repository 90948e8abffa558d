package smart

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestParseOrigins(t *testing.T) {
	for entry, want := range map[string]string{
		"idp.example.org":               "https://idp.example.org:443",
		"IDP.Example.org:8443":          "https://idp.example.org:8443",
		"https://idp.example.org/":      "https://idp.example.org:443",
		"http://localhost:9000":         "http://localhost:9000",
		"https://[::1]:8443":            "https://[::1]:8443",
		"":                              "",
		"ftp://x":                       "",
		"https://user:pass@idp.example": "",
		"https://idp.example/path":      "",
		"https://idp.example?x":         "",
		"https://":                      "",
		"*.example.org/x":               "",
	} {
		got, err := parseOrigins([]string{entry})
		if want == "" && err == nil || want != "" && (err != nil || !got[want] || len(got) != 1) {
			t.Errorf("%q: %v, %v, want %s", entry, got, err, want)
		}
	}
	if _, err := New(Options{Allow: []string{"ftp://x"}}); err == nil {
		t.Error("an Authority with a bad allow list")
	}
	if _, err := New(Options{Introspectors: map[string]Introspector{"https://x/y": {}}}); err == nil {
		t.Error("an Authority with a bad introspector")
	}
}

// Only allowed servers are asked, whoever names them, and by whatever redirect.
func TestOnlyAllowedServersAreAsked(t *testing.T) {
	reached := 0
	inside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { reached++ }))
	defer inside.Close()
	var idp *httptest.Server
	idp = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, inside.URL, http.StatusFound)
		case "/near":
			http.Redirect(w, r, idp.URL+"/ok", http.StatusTemporaryRedirect)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		case "/big":
			w.Write(slices.Repeat([]byte(" "), MaxAnswerBytes+1))
		case "/ok":
			w.Write([]byte("{}"))
		default:
			http.NotFound(w, r)
		}
	}))
	defer idp.Close()
	allowed, err := parseOrigins([]string{idp.URL})
	if err != nil {
		t.Fatal(err)
	}
	f := newFetcher(nil, allowed)
	other := strings.Replace(idp.URL, "http://", "https://", 1)
	for address, ok := range map[string]bool{
		idp.URL + "/ok": true, idp.URL + "/near": true,
		idp.URL + "/away": false, idp.URL + "/loop": false, idp.URL + "/big": false, idp.URL + "/none": false,
		inside.URL: false, other + "/ok": false, "file:///etc/hostname": false, "": false, "://": false,
		strings.Replace(idp.URL, "http://", "http://user@", 1) + "/ok":  false,
		strings.Replace(idp.URL, "127.0.0.1", "localhost", 1) + "/ok":   false,
		"http://169.254.169.254/latest/meta-data":                       false,
		strings.Replace(idp.URL, "http://", "http://evil.example#@", 1): false,
	} {
		_, _, err := f.get(t.Context(), address)
		if ok != (err == nil) {
			t.Errorf("get %q: %v", address, err)
		}
	}
	for path, ok := range map[string]bool{"/ok": true, "/near": false, "/away": false} {
		if _, err := f.post(t.Context(), idp.URL+path, url.Values{"token": {"t"}}, nil); ok != (err == nil) {
			t.Errorf("post %s: %v", path, err)
		}
	}
	if reached != 0 {
		t.Errorf("a server that is not allowed was asked %d times", reached)
	}
}
