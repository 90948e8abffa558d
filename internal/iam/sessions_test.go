package iam

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

var overTLS = Values{SecureTransport: true}

func TestAssumeRole(t *testing.T) {
	b := newBench(t)
	s, err := b.AssumeRole(context.Background(), Principal{annARN, annKey}, AssumeRole{Role: roleBase + "clinic/doctor", SessionName: "ann@ward"}, overTLS)
	if err != nil {
		t.Fatal(err)
	}
	const session = "arn:aws:sts::111122223333:assumed-role/doctor/ann@ward"
	if s.Principal != (Principal{session, s.AccessKeyID}) || !strings.HasPrefix(s.AccessKeyID, "ASIA") || len(s.AccessKeyID) != 20 ||
		!s.Expiry.Equal(b.now.Add(DurationDefault)) {
		t.Errorf("%v until %v", s.Principal, s.Expiry)
	}
	key, err := b.Lookup(context.Background(), s.AccessKeyID)
	if want := (Key{s.SecretAccessKey, s.SessionToken, session, s.Expiry}); err != nil || key != want || key.SessionToken == "" {
		t.Errorf("%v, %v", key, err)
	}
	if b.judge(s.Principal, "healthlake:ReadResource", nil) != Allowed || b.judge(s.Principal, "healthlake:CreateResource", nil) != NotAllowed {
		t.Error("the session is not held to the role's policies")
	}
	if b.judge(Principal{session, ""}, "healthlake:ReadResource", nil) != NotAllowed {
		t.Error("a session's name alone opens the door")
	}
	if b.judge(Principal{rootARN, s.AccessKeyID}, "healthlake:DeleteResource", nil) != NotAllowed {
		t.Error("a session's key opens another's door")
	}
}

func TestAssumeRoleRefused(t *testing.T) {
	b := newBench(t)
	ann, bob := Principal{annARN, annKey}, Principal{bobARN, bobKey}
	good := AssumeRole{Role: roleBase + "clinic/doctor", SessionName: "ok"}
	for _, c := range []struct {
		name   string
		who    Principal
		change func(*AssumeRole)
		values Values
		kind   fault.Kind
	}{
		{"trust denies without TLS", ann, func(*AssumeRole) {}, Values{}, fault.Forbidden},
		{"not trusted", bob, func(*AssumeRole) {}, overTLS, fault.Forbidden},
		{"anonymous", Anonymous, func(*AssumeRole) {}, overTLS, fault.Forbidden},
		{"role unknown", ann, func(a *AssumeRole) { a.Role += "s" }, overTLS, fault.Forbidden},
		{"a user is no role", ann, func(a *AssumeRole) { a.Role = bobARN }, overTLS, fault.Forbidden},
		{"no trust", ann, func(a *AssumeRole) { a.Role = roleBase + "smart" }, overTLS, fault.Forbidden},
		{"account trusted, no policy", ann, func(a *AssumeRole) { a.Role = roleBase + "shared" }, Values{SourceAccount: testAccount}, fault.Forbidden},
		{"too short", ann, func(a *AssumeRole) { a.Duration = time.Minute }, overTLS, fault.Invalid},
		{"too long", ann, func(a *AssumeRole) { a.Duration = 3 * time.Hour }, overTLS, fault.Invalid},
		{"session name", ann, func(a *AssumeRole) { a.SessionName = "a/b" }, overTLS, fault.Invalid},
		{"policy wrong", ann, func(a *AssumeRole) { a.Policy = `{"Statement":{}}` }, overTLS, fault.Invalid},
		{"policy long", ann, func(a *AssumeRole) { a.Policy = strings.Repeat(" ", sessionPolicyBytes+1) }, overTLS, fault.TooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := good
			c.change(&a)
			if s, err := b.AssumeRole(context.Background(), c.who, a, c.values); !fault.Is(err, c.kind) {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
}

// TestAssumeRoleByAccount: a role that trusts the account is open to those whom
// a policy allows sts:AssumeRole.
func TestAssumeRoleByAccount(t *testing.T) {
	b := newBench(t)
	b.edit("Action: [healthlake:ReadResource, healthlake:Search*]", "Action: [healthlake:ReadResource, sts:AssumeRole]")
	b.edit("StringEquals:\n              aws:ResourceTag", "StringEqualsIfExists:\n              aws:ResourceTag")
	b.now = b.now.Add(pollEvery)
	shared := AssumeRole{Role: roleBase + "shared", SessionName: "ann", Duration: DurationMin}
	ours := Values{SourceAccount: testAccount}
	first, err := b.AssumeRole(context.Background(), Principal{annARN, annKey}, shared, ours)
	if err != nil || b.judge(first.Principal, "healthlake:DeleteResource", nil) != Allowed {
		t.Fatalf("%v", err)
	}
	limited := shared
	limited.Policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["healthlake:Read*","s3:*"],"Resource":"*"},{"Effect":"Deny","Action":"healthlake:Delete*","Resource":"*"}]}`
	second, err := b.AssumeRole(context.Background(), Principal{annARN, annKey}, limited, ours)
	if err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]Outcome{
		"healthlake:ReadResource": Allowed, "healthlake:CreateResource": NotAllowed, "healthlake:DeleteResource": Denied, "s3:GetObject": NotAllowed,
	} {
		if got := b.judge(second.Principal, action, nil); got != want {
			t.Errorf("limited %s: %v, want %v", action, got, want)
		}
	}
}

func TestSessionEndsWithKeyAndRole(t *testing.T) {
	for name, end := range map[string]func(*bench){
		"key switched off": func(b *bench) {
			b.edit("anns-first-secret-000000\n", "anns-first-secret-000000\n        status: Inactive\n")
		},
		"role gone": func(b *bench) { b.edit("role/clinic/doctor", "role/clinic/nurse") },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			s, err := b.AssumeRole(context.Background(), Principal{annARN, annKey}, AssumeRole{Role: roleBase + "clinic/doctor", SessionName: "ok"}, overTLS)
			if err != nil || !b.knows(s.AccessKeyID) {
				t.Fatal(err)
			}
			end(b)
			b.now = b.now.Add(pollEvery)
			if b.knows(s.AccessKeyID) || b.judge(s.Principal, "healthlake:ReadResource", nil) != NotAllowed {
				t.Error("the session goes on")
			}
		})
	}
}

func TestSessionToken(t *testing.T) {
	b := newBench(t)
	s, err := b.SessionToken(context.Background(), Principal{annARN, annKey}, 0)
	if err != nil || s.Principal != (Principal{annARN, s.AccessKeyID}) || !s.Expiry.Equal(b.now.Add(SessionDefault)) {
		t.Fatalf("%v %v %v", s.Principal, s.Expiry, err)
	}
	ward := map[string]string{"ward": "a"}
	if b.judge(s.Principal, "healthlake:ReadResource", ward) != Allowed || b.judge(s.Principal, "healthlake:DeleteResource", ward) != NotAllowed {
		t.Error("the session may not what its user may")
	}
	if _, err := b.SessionToken(context.Background(), s.Principal, 0); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a session from a session: %v", err)
	}
	root, err := b.SessionToken(context.Background(), Principal{rootARN, rootKey}, 0)
	if err != nil || !root.Expiry.Equal(b.now.Add(RootSessionMax)) || b.judge(root.Principal, "healthlake:DeleteResource", nil) != Allowed {
		t.Errorf("the root's: %v", err)
	}
	for _, d := range []time.Duration{time.Second, SessionMax + time.Second} {
		if _, err := b.SessionToken(context.Background(), Principal{annARN, annKey}, d); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", d, err)
		}
	}
	if _, err := b.SessionToken(context.Background(), Principal{ARN: roleBase + "smart"}, 0); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a role: %v", err)
	}
}

func TestSessionsAreBounded(t *testing.T) {
	b := newBench(t)
	b.sessions.max = 2
	ask := func() error {
		_, err := b.SessionToken(context.Background(), Principal{annARN, annKey}, DurationMin)
		return err
	}
	for range 2 {
		if err := ask(); err != nil {
			t.Fatal(err)
		}
	}
	if err := ask(); !fault.Is(err, fault.Throttled) {
		t.Errorf("over the bound: %v", err)
	}
	b.now = b.now.Add(DurationMin + time.Second)
	if err := ask(); err != nil {
		t.Errorf("after the others ended: %v", err)
	}
}

func TestServiceRole(t *testing.T) {
	b := newBench(t)
	ours := Values{SourceAccount: testAccount}
	for _, c := range []struct {
		role, service string
		values        Values
		ok            bool
	}{
		{"smart", HealthLakeService, Values{}, true}, // no trust declared: HealthLake alone
		{"smart", "lambda.amazonaws.com", Values{}, false},
		{"shared", HealthLakeService, ours, true},
		{"shared", HealthLakeService, Values{SourceAccount: "444455556666"}, false},
		{"shared", HealthLakeService, Values{}, false},
		{"clinic/doctor", HealthLakeService, overTLS, false}, // trusts a user
		{"nobody", HealthLakeService, ours, false},
	} {
		p, err := b.ServiceRole(context.Background(), roleBase+c.role, c.service, c.values)
		if (err == nil) != c.ok || err != nil && !fault.Is(err, fault.Forbidden) || err == nil && p != (Principal{ARN: roleBase + c.role}) {
			t.Errorf("%s for %s: %v, %v", c.role, c.service, p, err)
		}
	}
	if _, err := b.ServiceRole(context.Background(), bobARN, HealthLakeService, ours); !fault.Is(err, fault.Forbidden) {
		t.Errorf("a user as a role: %v", err)
	}
}
