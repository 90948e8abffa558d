package smart

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// endpoint is an introspection endpoint that answers as told and notes what it
// was asked.
type endpoint struct {
	*httptest.Server
	calls  atomic.Int64
	answer func(w http.ResponseWriter, r *http.Request)
}

func newEndpoint(t *testing.T, answer func(w http.ResponseWriter, r *http.Request)) *endpoint {
	t.Helper()
	e := &endpoint{answer: answer}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.calls.Add(1)
		e.answer(w, r)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) store() Store {
	return Store{ID: "d", Endpoint: testEndpoint, Strategy: V1Only,
		Metadata: `{"issuer":"https://idp.example","introspection_endpoint":"` + e.URL + `/introspect","capabilities":[]}`}
}

func (e *endpoint) authority(t *testing.T, c *clock, as Introspector) *Authority {
	t.Helper()
	a, err := New(Options{Allow: []string{e.URL}, Clock: c.Now, Introspectors: map[string]Introspector{e.URL: as}})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// active is an introspection's yes, with changes.
func active(c *clock, changes map[string]any) string {
	m := map[string]any{
		"active": true, "scope": "patient/*.read", "client_id": "app", "exp": c.Now().Add(time.Hour).Unix(), "patient": "a",
		"aud": testEndpoint, "iss": "https://idp.example", "sub": "s1",
	}
	for name, value := range changes {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	text, _ := json.Marshal(m)
	return string(text)
}

func TestIntrospection(t *testing.T) {
	c := newClock()
	tests := []struct {
		name   string
		answer string
		as     Introspector
		want   string
	}{
		{"active", active(c, nil), Introspector{}, ""},
		{"no issuer", active(c, map[string]any{"iss": nil}), Introspector{}, ""},
		{"inactive", `{"active":false}`, Introspector{}, refused},
		{"inactive, with claims", active(c, map[string]any{"active": false}), Introspector{}, refused},
		{"unsaid", active(c, map[string]any{"active": nil}), Introspector{}, refused},
		{"text is not true", active(c, map[string]any{"active": "true"}), Introspector{}, refused},
		{"another issuer", active(c, map[string]any{"iss": "https://evil.example"}), Introspector{}, refused},
		{"another audience", active(c, map[string]any{"aud": "x"}), Introspector{}, refused},
		{"another audience, any is fine", active(c, map[string]any{"aud": "x"}), Introspector{AnyAudience: true}, refused},
		{"no audience", active(c, map[string]any{"aud": nil}), Introspector{}, refused},
		{"no audience, any is fine", active(c, map[string]any{"aud": nil}), Introspector{AnyAudience: true}, ""},
		{"expired", active(c, map[string]any{"exp": c.Now().Add(-time.Hour).Unix()}), Introspector{}, expired},
		{"no expiry", active(c, map[string]any{"exp": nil}), Introspector{}, refused},
		{"not yet valid", active(c, map[string]any{"nbf": c.Now().Add(time.Hour).Unix()}), Introspector{}, refused},
		{"not JSON", `<html>`, Introspector{}, dependency},
		{"a list", `[true]`, Introspector{}, dependency},
		{"said twice", `{"active":false,"active":true}`, Introspector{}, dependency},
	}
	for _, tt := range tests {
		e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(tt.answer)) })
		auth, err := e.authority(t, c, tt.as).Authorize(t.Context(), e.store(), read, "opaque")
		if verdict(err) != tt.want || err == nil && (auth.Claims.Patient != "a" || auth.Claims.RoleARN != "") {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// The request is RFC 7662's, with this server's credentials; redirects with the
// token in hand are not followed.
func TestIntrospectionRequest(t *testing.T) {
	c := newClock()
	var asked string
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		user, secret, _ := r.BasicAuth()
		asked = strings.Join([]string{r.Method, r.URL.Path, r.Header.Get("Content-Type"), r.PostFormValue("token"), r.PostFormValue("token_type_hint"), user, secret}, " ")
		w.Write([]byte(active(c, nil)))
	})
	a := e.authority(t, c, Introspector{ClientID: "tarn:1", Secret: "s%"})
	if _, err := a.Authorize(t.Context(), e.store(), read, "a&b=c"); err != nil {
		t.Fatal(err)
	}
	if want := "POST /introspect application/x-www-form-urlencoded a&b=c access_token tarn%3A1 s%25"; asked != want {
		t.Errorf("asked %s\nwant  %s", asked, want)
	}
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"401": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			w.Write([]byte(active(c, nil)))
		},
		"500": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		e := newEndpoint(t, answer)
		if _, err := e.authority(t, c, Introspector{}).Authorize(t.Context(), e.store(), read, "t"); verdict(err) != dependency || e.calls.Load() != 1 {
			t.Errorf("%s: %v after %d calls", name, err, e.calls.Load())
		}
	}
}

// A yes is kept for half a minute, a no for less; a failure not at all.
func TestIntrospectionMemory(t *testing.T) {
	c := newClock()
	answer := active(c, nil)
	e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(answer)) })
	a := e.authority(t, c, Introspector{})
	ask := func(pass time.Duration, token, now, want string, calls int64) {
		t.Helper()
		c.pass(pass)
		answer = now
		_, err := a.Authorize(t.Context(), e.store(), read, token)
		if verdict(err) != want || e.calls.Load() != calls {
			t.Fatalf("%v after %d calls, want %q, %d", err, e.calls.Load(), want, calls)
		}
	}
	yes, no := active(c, nil), `{"active":false}`
	ask(0, "t", yes, "", 1)
	ask(introspectionAge-1, "t", no, "", 1)
	ask(1, "t", no, refused, 2)
	ask(badTokenAge-1, "t", yes, refused, 2)
	ask(1, "t", yes, "", 3)
	ask(0, "u", "broken", dependency, 4)
	ask(0, "u", yes, "", 5)
}
