package smart

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

const (
	lambdaARN = "arn:aws:lambda:us-east-1:111122223333:function:smart"
	roleARN   = "arn:aws:iam::111122223333:role/smart"
)

// function is a token Lambda.
type function struct {
	calls  atomic.Int64
	answer func(ctx context.Context, arn string, payload []byte) ([]byte, error)
}

func (f *function) Invoke(ctx context.Context, arn string, payload []byte) ([]byte, error) {
	f.calls.Add(1)
	return f.answer(ctx, arn, payload)
}

func answering(text string) *function {
	return &function{answer: func(context.Context, string, []byte) ([]byte, error) { return []byte(text), nil }}
}

func lambdaStore() Store {
	return Store{ID: "d", Endpoint: testEndpoint, Strategy: V1Only, Metadata: `{"issuer":"https://idp.example","jwks_uri":"https://idp.example/keys"}`, LambdaARN: lambdaARN}
}

func lambdaAuthority(t testing.TB, f Invoker, c *clock, keep time.Duration) *Authority {
	t.Helper()
	a, err := New(Options{Invoker: f, Clock: c.Now, LambdaCache: keep})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// answer is a Lambda's yes, with changes to its authPayload and to itself.
func yesAnswer(t testing.TB, c *clock, auth, outer map[string]any) string {
	t.Helper()
	now := c.Now()
	payload := map[string]any{
		"iss": "https://idp.example", "aud": testEndpoint, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"isAuthorized": true, "uid": "u1", "scope": "patient/*.read launch/patient", "patient": "a", "fhirUser": "Practitioner/p",
		"sub": "s1", "client_id": "app", "extra": []int{1},
	}
	set := func(m, changes map[string]any) {
		maps.Copy(m, changes)
		maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	}
	set(payload, auth)
	whole := map[string]any{"authPayload": payload, "iamRoleARN": roleARN, "more": true}
	set(whole, outer)
	text, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The request and the answer are HealthLake's, member by member.
func TestLambdaContract(t *testing.T) {
	c := newClock()
	var event string
	f := &function{answer: func(_ context.Context, arn string, payload []byte) ([]byte, error) {
		event = arn + " " + string(payload)
		return []byte(yesAnswer(t, c, nil, nil)), nil
	}}
	auth, err := lambdaAuthority(t, f, c, 0).Authorize(t.Context(), lambdaStore(), read, "any-token.at/all")
	if err != nil {
		t.Fatal(err)
	}
	want := lambdaARN + ` {"datastoreEndpoint":"` + testEndpoint + `","operationName":"ReadResource","bearerToken":"any-token.at/all"}`
	if event != want {
		t.Errorf("asked %s\nwant  %s", event, want)
	}
	got := auth.Claims
	if got.RoleARN != roleARN || got.Patient != "a" || got.FHIRUser != "Practitioner/p" || got.Subject != "s1" || got.ClientID != "app" ||
		got.UID != "u1" || got.Scope != "patient/*.read launch/patient" || !got.Expires.Equal(c.Now().Add(time.Hour)) {
		t.Errorf("claims %+v", got)
	}
}

// Each answer gives its status, and none is an open door.
func TestLambdaAnswers(t *testing.T) {
	c := newClock()
	yes := func(auth, outer map[string]any) string { return yesAnswer(t, c, auth, outer) }
	at := func(d time.Duration) int64 { return c.Now().Add(d).Unix() }
	tests := []struct {
		name, answer, want string
	}{
		{"yes", yes(nil, nil), ""},
		{"yes as text", yes(map[string]any{"isAuthorized": "true"}, nil), ""},
		{"yes as Python writes it", yes(map[string]any{"isAuthorized": "True"}, nil), ""},
		{"optional members left out", yes(map[string]any{"iss": nil, "iat": nil, "uid": nil, "sub": nil, "client_id": nil, "fhirUser": nil}, nil), ""},
		{"audience without slash", yes(map[string]any{"aud": strings.TrimSuffix(testEndpoint, "/")}, nil), ""},
		{"no", yes(map[string]any{"isAuthorized": false}, nil), refused},
		{"no as text", yes(map[string]any{"isAuthorized": "false"}, nil), refused},
		{"no, and nothing else", `{"authPayload":{"isAuthorized":"false"}}`, refused},
		{"unsaid", yes(map[string]any{"isAuthorized": nil}, nil), refused},
		{"one is not true", yes(map[string]any{"isAuthorized": 1}, nil), refused},
		{"yes is not true", yes(map[string]any{"isAuthorized": "yes"}, nil), refused},
		{"null is not true", `{"authPayload":{"isAuthorized":null}}`, refused},
		{"a list is not true", yes(map[string]any{"isAuthorized": []bool{true}}, nil), refused},
		{"another audience", yes(map[string]any{"aud": "https://tarn.example/datastore/e/r4/"}, nil), refused},
		{"no audience", yes(map[string]any{"aud": nil}, nil), dependency},
		{"expired", yes(map[string]any{"exp": at(-Skew)}, nil), expired},
		{"no expiry", yes(map[string]any{"exp": nil}, nil), dependency},
		{"expiry as text", yes(map[string]any{"exp": "soon"}, nil), dependency},
		{"not yet valid", yes(map[string]any{"nbf": at(Skew + time.Second)}, nil), refused},
		{"no nbf", yes(map[string]any{"nbf": nil}, nil), dependency},
		{"no role", yes(nil, map[string]any{"iamRoleARN": nil}), dependency},
		{"role of a wrong kind", yes(nil, map[string]any{"iamRoleARN": 5}), dependency},
		{"no payload", yes(nil, map[string]any{"authPayload": nil}), dependency},
		{"empty object", `{}`, dependency},
		{"payload is text", `{"authPayload":"yes"}`, dependency},
		{"list", `[]`, dependency},
		{"null", `null`, dependency},
		{"nothing", ``, dependency},
		{"cut", yes(nil, nil)[:40], dependency},
		{"two answers", yes(nil, nil) + yes(nil, nil), dependency},
		{"said twice", `{"authPayload":{"isAuthorized":false,"isAuthorized":true}}`, dependency},
		{"too large", yes(map[string]any{"pad": strings.Repeat("x", maxLambdaAnswer)}, nil), dependency},
	}
	for _, tt := range tests {
		auth, err := lambdaAuthority(t, answering(tt.answer), c, 0).Authorize(t.Context(), lambdaStore(), read, "t")
		if verdict(err) != tt.want || (err == nil) != (auth != nil) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// A Lambda that fails, is slow, or outlives its client opens nothing.
func TestLambdaThatDoesNotAnswer(t *testing.T) {
	timeout, canceled := fault.Timeout.String(), fault.Canceled.String()
	yes := yesAnswer(t, newClock(), nil, nil)
	tests := []struct {
		name   string
		answer func(ctx context.Context) ([]byte, error)
		want   string
		after  time.Duration
	}{
		{"fails", func(context.Context) ([]byte, error) { return []byte(yes), errors.New("Unhandled") }, dependency, 0},
		{"just in time", func(context.Context) ([]byte, error) { time.Sleep(LambdaTimeout - 1); return []byte(yes), nil }, "", LambdaTimeout - 1},
		{"slow", func(ctx context.Context) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }, timeout, LambdaTimeout},
		{"slow and deaf", func(context.Context) ([]byte, error) { time.Sleep(time.Minute); return []byte(yes), nil }, timeout, LambdaTimeout},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			f := &function{answer: func(ctx context.Context, _ string, _ []byte) ([]byte, error) { return tt.answer(ctx) }}
			began := time.Now()
			_, err := lambdaAuthority(t, f, newClock(), 0).Authorize(t.Context(), lambdaStore(), read, "t")
			if took := time.Since(began); verdict(err) != tt.want || took != tt.after {
				t.Errorf("%s: %v after %v, want %q after %v", tt.name, err, took, tt.want, tt.after)
			}
			time.Sleep(time.Minute) // of the bubble: until the deaf one is done
		})
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		f := &function{answer: func(ctx context.Context, _ string, _ []byte) ([]byte, error) {
			cancel()
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		if _, err := lambdaAuthority(t, f, newClock(), 0).Authorize(ctx, lambdaStore(), read, "t"); verdict(err) != canceled {
			t.Errorf("a client that went away: %v", err)
		}
	})
}

// A Lambda is asked each time, unless its answers are to be kept: then per store,
// token and operation, and no longer than the token lives.
func TestLambdaMemory(t *testing.T) {
	c := newClock()
	yes := yesAnswer(t, c, nil, nil)
	for _, tt := range []struct {
		keep  time.Duration
		calls int64
	}{{0, 7}, {time.Minute, 5}} {
		f := answering(yes)
		a := lambdaAuthority(t, f, c, tt.keep)
		other := lambdaStore()
		other.ID = "e"
		for _, ask := range []struct {
			store     Store
			operation string
			token     string
			pass      time.Duration
		}{
			{lambdaStore(), read, "t", 0}, {lambdaStore(), read, "t", 0}, {lambdaStore(), "UpdateResource", "t", 0},
			{lambdaStore(), read, "u", 0}, {other, read, "t", 0}, {lambdaStore(), read, "t", time.Minute - 1}, {lambdaStore(), read, "t", 1},
		} {
			c.pass(ask.pass)
			if _, err := a.Authorize(t.Context(), ask.store, ask.operation, ask.token); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.calls.Load(); n != tt.calls {
			t.Errorf("kept for %v: %d calls, want %d", tt.keep, n, tt.calls)
		}
	}
	f := answering(yesAnswer(t, c, map[string]any{"exp": c.Now().Add(time.Second).Unix()}, nil))
	a := lambdaAuthority(t, f, c, time.Hour)
	for range 2 {
		if _, err := a.Authorize(t.Context(), lambdaStore(), read, "t"); err != nil {
			t.Fatal(err)
		}
		c.pass(2 * time.Second)
	}
	if f.calls.Load() != 2 {
		t.Error("an answer was kept longer than the token lives")
	}
}

// Functions may be mapped to URLs; what is mapped to nothing fails.
func TestHTTPInvoker(t *testing.T) {
	c := newClock()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var event lambdaEvent
		if err := json.NewDecoder(r.Body).Decode(&event); err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "bad", http.StatusBadRequest)
			return
		}
		switch r.URL.Path {
		case "/fails":
			w.WriteHeader(http.StatusBadGateway)
		case "/away":
			http.Redirect(w, r, "/", http.StatusTemporaryRedirect)
			return
		}
		w.Write([]byte(yesAnswer(t, c, map[string]any{"sub": event.Token}, nil)))
	}))
	defer s.Close()
	for _, tt := range []struct {
		urls map[string]string
		rest Invoker
		want string
	}{
		{map[string]string{lambdaARN: s.URL}, nil, ""},
		{map[string]string{lambdaARN: s.URL + "/fails"}, nil, dependency},
		{map[string]string{lambdaARN: s.URL + "/away"}, nil, dependency},
		{map[string]string{lambdaARN: "://"}, nil, dependency},
		{nil, nil, dependency},
		{nil, answering(yesAnswer(t, c, nil, nil)), ""},
	} {
		auth, err := lambdaAuthority(t, &HTTPInvoker{URLs: tt.urls, Else: tt.rest}, c, 0).Authorize(t.Context(), lambdaStore(), read, "s1")
		if verdict(err) != tt.want || err == nil && auth.Claims.Subject != "s1" {
			t.Errorf("%v: %v", tt.urls, err)
		}
	}
}

// FuzzLambdaAnswer: no answer opens the door that does not say so in full.
func FuzzLambdaAnswer(f *testing.F) {
	c := newClock()
	f.Add([]byte(yesAnswer(f, c, nil, nil)))
	f.Add([]byte(`{"authPayload":{"isAuthorized":"true","aud":["` + testEndpoint + `"],"nbf":0,"exp":1e10},"iamRoleARN":"r"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		l := &lambda{lambdaARN, answering(string(answer)), c.Now}
		claims, err := l.Verify(t.Context(), "t", Call{Endpoint: testEndpoint, Operation: read})
		if err != nil {
			if found := fault.From(err); found.Kind == fault.Internal {
				t.Fatalf("an error without a kind: %v", err)
			}
			return
		}
		if claims.RoleARN == "" || claims.Expires.Before(c.Now().Add(-Skew)) || len(claims.Audience) == 0 || !strings.Contains(strings.ToLower(string(answer)), "true") {
			t.Fatalf("%s was taken: %+v", answer, claims)
		}
	})
}
