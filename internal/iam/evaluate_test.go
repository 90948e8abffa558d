package iam

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	testStore = "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c"
	testUser  = "arn:aws:iam::111122223333:user/bob"
)

// TestPolicies runs testdata/policies: policies, one or several, and then
// requests with what is to come of them. Policies after a request begin anew.
func TestPolicies(t *testing.T) {
	files, err := filepath.Glob("testdata/policies/*.test")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".test"), func(t *testing.T) { runPolicies(t, file) })
	}
}

func runPolicies(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var policies []*Document
	var document strings.Builder
	reading, asked := false, true
	for number, line := range strings.Split(string(text), "\n") {
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(line, "#") || line == "":
		case verb == "policy":
			if asked {
				policies, asked = nil, false
			}
			policies, reading = flush(t, policies, &document), true
		case reading && verb != "allow" && verb != "none" && verb != "deny":
			document.WriteString(line + "\n")
		default:
			policies, reading, asked = flush(t, policies, &document), false, true
			if got := evaluate(policies, request(t, strings.Fields(rest))); got.Outcome != outcomes[verb] {
				t.Errorf("%s:%d: %s: %v", file, number+1, line, got.Outcome)
			}
		}
	}
}

var outcomes = map[string]Outcome{"allow": Allowed, "none": NotAllowed, "deny": Denied}

// flush parses the document that was read.
func flush(t *testing.T, policies []*Document, text *strings.Builder) []*Document {
	t.Helper()
	if text.Len() == 0 {
		return policies
	}
	d, err := ParseDocument("test", []byte(text.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	text.Reset()
	return append(policies, d)
}

// request reads ACTION RESOURCE and values.
func request(t *testing.T, words []string) *environment {
	t.Helper()
	r := &Request{Action: asked(words[0]), Resource: words[1], Values: Values{ResourceTags: map[string]string{}, RequestTags: map[string]string{}}}
	if r.Resource == "$" {
		r.Resource = testStore
	}
	e := &environment{Request: r, subject: subject{arn: testUser, account: "111122223333", name: "bob", tags: map[string]string{}}}
	for _, w := range words[2:] {
		if err := setValue(e, w); err != nil {
			t.Fatal(err)
		}
	}
	return e
}

func setValue(e *environment, word string) (err error) {
	name, value, _ := strings.Cut(word, "=")
	family, key, _ := strings.Cut(name, ".")
	switch family {
	case "tag":
		e.Values.ResourceTags[key] = value
	case "req":
		e.Values.RequestTags[key] = value
	case "my":
		e.subject.tags[key] = value
	case "me":
		e.subject.arn = value
	case "keys":
		e.Values.TagKeys = strings.Split(value, ",")
	case "tls":
		e.Values.SecureTransport = true
	case "agent":
		e.Values.UserAgent = value
	case "region":
		e.Values.Region = value
	case "passed":
		e.Values.PassedToService = value
	case "ip":
		e.Values.SourceIP, err = netip.ParseAddr(value)
	case "time":
		e.Values.Time, err = time.Parse(time.RFC3339, value)
	default:
		err = fmt.Errorf("%q is no value", word)
	}
	return err
}

func TestDecisionNamesTheStatement(t *testing.T) {
	d, err := ParseDocument("ward", []byte(`{"Version":"2012-10-17","Statement":[
		{"Sid":"Everything","Effect":"Allow","Action":"*","Resource":"*"},
		{"Sid":"ButDelete","Effect":"Deny","Action":"healthlake:DeleteResource","Resource":"*"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for action, want := range map[string]Decision{
		"healthlake:ReadResource":   {Allowed, "ward", "Everything"},
		"healthlake:DeleteResource": {Denied, "ward", "ButDelete"},
	} {
		if got := evaluate([]*Document{d}, request(t, []string{action, "$"})); got != want {
			t.Errorf("%s: %v, want %v", action, got, want)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	d, err := ParseDocument("ward", []byte(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["healthlake:Read*","healthlake:Search*"],"Resource":"arn:aws:healthlake:*:*:datastore/fhir/*",
		 "Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"},"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}}]}`))
	if err != nil {
		b.Fatal(err)
	}
	e := &environment{Request: &Request{Action: "healthlake:ReadResource", Resource: testStore, Values: Values{
		SourceIP: netip.MustParseAddr("203.0.113.7"), ResourceTags: map[string]string{"team": "a"}}}, subject: subject{tags: map[string]string{"team": "a"}}}
	for b.Loop() {
		if evaluate([]*Document{d}, e).Outcome != Allowed {
			b.Fatal("not allowed")
		}
	}
}
