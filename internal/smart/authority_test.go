package smart

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Each store has exactly one judge.
func TestChoiceOfJudge(t *testing.T) {
	const issuer, jwks, intro = `"issuer":"https://i.example"`, `"jwks_uri":"https://i.example/k"`, `"introspection_endpoint":"https://i.example/t"`
	metadata := func(members ...string) string { return "{" + strings.Join(members, ",") + "}" }
	tests := []struct {
		store Store
		want  string
	}{
		{Store{Strategy: All, LambdaARN: lambdaARN, Metadata: metadata(issuer, jwks, intro)}, "*smart.lambda"},
		{Store{Strategy: V1Only, LambdaARN: lambdaARN}, "*smart.lambda"},
		{Store{Strategy: All, Metadata: metadata(issuer, jwks, intro)}, "*smart.jwtJudge"},
		{Store{Strategy: All, Metadata: metadata(issuer, jwks)}, "*smart.jwtJudge"},
		{Store{Strategy: All, Metadata: metadata(issuer)}, "*smart.jwtJudge"},
		{Store{Strategy: All, Metadata: metadata(issuer, intro)}, "*smart.introspection"},
		{Store{Strategy: All, Metadata: metadata(intro)}, "*smart.introspection"},
		{Store{Strategy: All, Metadata: metadata(jwks)}, "smart.nobody"}, // whose keys?
		{Store{Strategy: All, Metadata: metadata()}, "smart.nobody"},
		{Store{Strategy: All, Metadata: "broken"}, "smart.nobody"},
		{Store{Strategy: "AWS_AUTH", LambdaARN: lambdaARN, Metadata: metadata(issuer, jwks)}, "smart.nobody"},
		{Store{Metadata: metadata(issuer, jwks)}, "smart.nobody"},
	}
	a := lambdaAuthority(t, answering("{}"), newClock(), 0)
	for _, tt := range tests {
		tt.store.ID, tt.store.Endpoint = "d", testEndpoint
		if got := fmt.Sprintf("%T", a.tenant(tt.store).judge); got != tt.want {
			t.Errorf("%+v: judged by %s, want %s", tt.store, got, tt.want)
		}
	}
	for name, s := range map[string]Store{
		"no endpoint": {ID: "d", Strategy: All, LambdaARN: lambdaARN},
		"AWS_AUTH":    {ID: "d", Strategy: "AWS_AUTH", Endpoint: testEndpoint},
	} {
		if _, err := a.Authorize(t.Context(), s, read, "t"); verdict(err) != refused {
			t.Errorf("%s: %v", name, err)
		}
	}
	none, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.Authorize(t.Context(), lambdaStore(), read, "t"); verdict(err) != refused {
		t.Errorf("a Lambda store without an Invoker: %v", err)
	}
	if _, err := none.Authorize(t.Context(), newIssuer(t, "rsa").store(), read, sign(t, map[string]any{"alg": "RS256"}, map[string]any{}, testKeys()["rsa"])); err == nil {
		t.Error("a judge without an allow list takes tokens")
	}
}

// stub is a judge that counts.
type stub struct {
	calls atomic.Int64
	judge func(token string) (Claims, error)
}

func (s *stub) Verify(ctx context.Context, token string, _ Call) (Claims, error) {
	s.calls.Add(1)
	return s.judge(token)
}

// tenantOf is a store's memory around a judge.
func tenantOf(t testing.TB, c *clock, judge Judge, keep retention) *tenant {
	t.Helper()
	a, err := New(Options{Clock: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	tenant := a.newTenant(Store{ID: "d", Endpoint: testEndpoint, Strategy: All})
	tenant.judge, tenant.keep = judge, keep
	return tenant
}

// A token is kept no longer than it lives, nor longer than the limit.
func TestTokenMemory(t *testing.T) {
	for _, tt := range []struct{ life, kept time.Duration }{
		{time.Hour, maxTokenAge}, {time.Minute, time.Minute}, {time.Second, time.Second}, {-time.Second, 0},
	} {
		c := newClock()
		s := &stub{}
		expires := c.Now().Add(tt.life)
		s.judge = func(string) (Claims, error) { return Claims{Expires: expires}, nil }
		tenant := tenantOf(t, c, s, retention{age: maxTokenAge})
		ask := func(pass time.Duration, calls int64) {
			t.Helper()
			c.pass(pass)
			if _, err := tenant.authorize(t.Context(), "t", read); err != nil || s.calls.Load() != calls {
				t.Errorf("life %v: %v after %d calls, want %d", tt.life, err, s.calls.Load(), calls)
			}
		}
		ask(0, 1)
		if tt.kept > 0 {
			ask(tt.kept-1, 1)
			ask(1, 2)
		} else {
			ask(0, 2)
		}
	}
}

// However many tokens come, memory is bounded, and bad ones push no good one
// out.
func TestMemoryIsBounded(t *testing.T) {
	c := newClock()
	s := &stub{judge: func(token string) (Claims, error) {
		if strings.HasPrefix(token, "bad") {
			return Claims{}, unknown("test", "bad", nil)
		}
		return Claims{Expires: c.Now().Add(time.Hour)}, nil
	}}
	tenant := tenantOf(t, c, s, retention{age: maxTokenAge})
	for n := range MaxTokens + 50 {
		if _, err := tenant.authorize(t.Context(), fmt.Sprint("good", n), read); err != nil {
			t.Fatal(err)
		}
	}
	for n := range MaxBadTokens + 50 {
		if _, err := tenant.authorize(t.Context(), fmt.Sprint("bad", n), read); verdict(err) != refused {
			t.Fatal(err)
		}
	}
	if tenant.good.len() != MaxTokens || tenant.bad.len() != MaxBadTokens {
		t.Errorf("%d good, %d bad", tenant.good.len(), tenant.bad.len())
	}
	before := s.calls.Load()
	if _, err := tenant.authorize(t.Context(), fmt.Sprint("good", MaxTokens+49), read); err != nil || s.calls.Load() != before {
		t.Errorf("the latest good token is not kept: %v", err)
	}
}

// What one store accepted, another does not; and a change of the store begins
// anew.
func TestMemoryIsOneStores(t *testing.T) {
	i := newIssuer(t, "rsa")
	a, token := i.authority(t), i.token(t, "RS256", "rsa", nil)
	if _, err := a.Authorize(t.Context(), i.store(), read, token); err != nil {
		t.Fatal(err)
	}
	other := i.store()
	other.ID, other.Endpoint = "e", "https://tarn.example/datastore/e/r4/"
	if _, err := a.Authorize(t.Context(), other, read, token); verdict(err) != refused {
		t.Errorf("a token for another store: %v", err)
	}
	changed := i.store()
	changed.Metadata = strings.Replace(changed.Metadata, i.URL+`"`, `https://new.example"`, 1)
	if _, err := a.Authorize(t.Context(), changed, read, token); verdict(err) != refused {
		t.Errorf("a store with another issuer: %v", err)
	}
	if _, err := a.Authorize(t.Context(), i.store(), read, token); err != nil {
		t.Error(err)
	}
	a.Forget("d")
	if a.tenants.len() != 1 {
		t.Errorf("%d stores are kept", a.tenants.len())
	}
}

// The same token at once is judged once; a client that goes away takes nobody
// with it.
func TestOneJudgementForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		s := &stub{judge: func(string) (Claims, error) {
			time.Sleep(time.Second)
			return Claims{Expires: c.Now().Add(time.Hour)}, nil
		}}
		tenant := tenantOf(t, c, s, retention{age: time.Minute})
		first, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for n := range 8 {
			ctx, want := t.Context(), ""
			if n == 0 {
				ctx, want = first, "canceled"
			}
			all.Go(func() {
				if _, err := tenant.authorize(ctx, "t", read); verdict(err) != want {
					t.Errorf("%v, want %q", err, want)
				}
			})
		}
		synctest.Wait()
		leave()
		all.Wait()
		if n := s.calls.Load(); n != 1 {
			t.Errorf("judged %d times", n)
		}
	})
}

// Who found no answer, and comes to the judge when another has just had one,
// takes that.
func TestAnAnswerJustGivenIsTaken(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{{"yes", nil, ""}, {"no", unknown("test", "bad", nil), refused}} {
		c := newClock()
		expires := c.Now().Add(time.Hour)
		s := &stub{judge: func(string) (Claims, error) { return Claims{Expires: expires}, tt.err }}
		tenant := tenantOf(t, c, s, retention{age: time.Minute})
		if _, err := tenant.authorize(t.Context(), "t", read); verdict(err) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
		// The second is past its look at the memory, which was empty then.
		if _, err := tenant.askAndKeep(t.Context(), tenant.id("t", read), "t", read); verdict(err) != tt.want || s.calls.Load() != 1 {
			t.Errorf("%s: %v, judged %d times", tt.name, err, s.calls.Load())
		}
	}
}

// Failures of the judge are not remembered.
func TestFailuresAreNotKept(t *testing.T) {
	c := newClock()
	s := &stub{judge: func(string) (Claims, error) { return Claims{}, broken("test", "down", nil) }}
	tenant := tenantOf(t, c, s, retention{age: time.Minute})
	for n := range int64(3) {
		if _, err := tenant.authorize(t.Context(), "t", read); verdict(err) != dependency || s.calls.Load() != n+1 {
			t.Errorf("%v after %d calls", err, s.calls.Load())
		}
	}
}

func TestKeptForgetsTheLeastUsed(t *testing.T) {
	now := newClock().Now()
	k := newKept[string, int](2)
	k.put("a", 1, forever)
	k.put("b", 2, now.Add(time.Second))
	k.get("a", now)
	k.put("a", 3, forever)
	k.get("b", now)
	k.put("c", 4, forever) // a was used before b
	for key, want := range map[string]int{"a": 0, "b": 2, "c": 4} {
		if got, ok := k.get(key, now); got != want || ok != (want != 0) {
			t.Errorf("%s: %d, %v", key, got, ok)
		}
	}
	if _, ok := k.get("b", now.Add(time.Second)); ok || k.len() != 1 {
		t.Errorf("a value outlives its time; %d kept", k.len())
	}
	k.forget("c")
	k.forget("zzz")
	if k.len() != 0 {
		t.Errorf("%d kept", k.len())
	}
}
