package sigv4_test

import (
	"encoding/json"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/sigv4"
	"github.com/tarn-fhir/tarn/internal/testpath"
)

// vector is one of the official cases (awslabs/aws-c-auth,
// tests/aws-signing-test-suite/v4).
type vector struct {
	Name    string
	Context struct {
		Credentials struct {
			AccessKeyID     string `json:"access_key_id"`
			SecretAccessKey string `json:"secret_access_key"`
			Token           string
		}
		Normalize bool
		Region    string
		Service   string
		Timestamp time.Time
	}
	Canonical          string
	StringToSign       string `json:"string_to_sign"`
	SignedRequest      string `json:"signed_request"`
	QueryCanonical     string `json:"query_canonical"`
	QuerySignedRequest string `json:"query_signed_request"`
}

// vectorsCount is how many cases the suite has.
const vectorsCount = 38

func vectors(t *testing.T) []vector {
	t.Helper()
	text, err := os.ReadFile(testpath.Shared(t, "suites", "sigv4.json"))
	if err != nil {
		t.Fatal(err)
	}
	var suite struct{ Cases []vector }
	if err := json.Unmarshal(text, &suite); err != nil {
		t.Fatal(err)
	}
	if len(suite.Cases) != vectorsCount {
		t.Fatalf("%d vectors, want %d", len(suite.Cases), vectorsCount)
	}
	return suite.Cases
}

// verifier is made for the vector's own clock, region, service and keys.
func (v *vector) verifier(t *testing.T, debug bool) *sigv4.Verifier {
	key := v.Context.Credentials
	return mustNew(t, sigv4.Config{
		Region: v.Context.Region, Service: v.Context.Service,
		Clock: func() time.Time { return v.Context.Timestamp },
		Keys: oneKey{key.AccessKeyID, sigv4.Credential{
			SecretAccessKey: key.SecretAccessKey, SessionToken: key.Token, Principal: principal,
		}},
		MaxBody: 1 << 10,
		Debug:   debug,
	})
}

// forms gives the vector signed in the header and signed in the query.
func (v *vector) forms() map[string]string {
	return map[string]string{"header": v.SignedRequest, "query": v.QuerySignedRequest}
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		for form, text := range v.forms() {
			t.Run(v.Name+" "+form, func(t *testing.T) {
				r, body := parseRequest(t, text)
				who, err := v.verifier(t, false).Verify(r, body)
				if err != nil {
					t.Fatal(err)
				}
				want := sigv4.Identity{
					AccessKeyID: v.Context.Credentials.AccessKeyID, Principal: principal,
					SignedAt: v.Context.Timestamp, Presigned: form == "query",
					Temporary: v.Context.Credentials.Token != "",
				}
				if *who != want {
					t.Errorf("signed by %+v, want %+v", *who, want)
				}
			})
		}
	}
}

// mutationsMin says that the generator generates: its output was counted once.
const mutationsMin = 20_000

// TestVectorMutations alters one thing at a time in each vector, wherever it
// changes what was signed, and expects a refusal.
func TestVectorMutations(t *testing.T) {
	tried := 0
	for _, v := range vectors(t) {
		verifier := v.verifier(t, false)
		for form, text := range v.forms() {
			for name, mutant := range mutations(text) {
				if !v.alters(text, mutant) {
					continue
				}
				tried++
				r, body := parseRequest(t, mutant)
				if who, err := verifier.Verify(r, body); err == nil {
					t.Errorf("%s in the %s: %s is taken, signed by %s:\n%s", v.Name, form, name, who.AccessKeyID, mutant)
				} else if !isRefusal(err) {
					t.Errorf("%s in the %s: %s: %v is no refusal", v.Name, form, name, err)
				}
			}
		}
	}
	if tried < mutationsMin {
		t.Errorf("%d mutations were tried, want at least %d", tried, mutationsMin)
	}
	t.Logf("%d mutations refused", tried)
}

// isRefusal reports whether err blames the credentials, not us.
func isRefusal(err error) bool {
	switch fault.From(err).Kind {
	case fault.MissingToken, fault.IncompleteSignature, fault.UnknownKey, fault.BadSignature:
		return true
	}
	return false
}

// TestVectorsExplained checks that debug mode shows the canonical request and
// the string to sign of the specification, and no session token.
func TestVectorsExplained(t *testing.T) {
	for _, v := range vectors(t) {
		token := v.Context.Credentials.Token
		if !v.Context.Normalize {
			continue // explained as if normalised, which the specification asks for
		}
		last := strings.LastIndex(v.SignedRequest, "Signature=") + len("Signature=")
		r, body := parseRequest(t, v.SignedRequest[:last]+strings.Repeat("0", 64)+v.SignedRequest[last+64:])
		_, err := v.verifier(t, true).Verify(r, body)
		message := fault.From(err).Message()
		if token != "" && strings.Contains(message, token) {
			t.Errorf("%s: the session token is shown: %s", v.Name, message)
		}
		if strings.Contains(message, v.Context.Credentials.SecretAccessKey) {
			t.Errorf("%s: the secret is shown: %s", v.Name, message)
		}
		canonical := v.Canonical
		if token != "" {
			canonical = strings.ReplaceAll(canonical, token, "(session token)")
		}
		for _, want := range []string{"'" + canonical + "'", "'" + v.StringToSign + "'"} {
			if !strings.Contains(message, want) {
				t.Errorf("%s: %s\ndoes not hold\n%s", v.Name, message, want)
			}
		}
	}
}

// alters tells whether a mutant's canonical path differs from the original's:
// /exbmple/.. and /example/.. are one path once normalised. All other
// mutations alter something signed.
func (v *vector) alters(text, mutant string) bool {
	before, after := splitTarget(text), splitTarget(mutant)
	if before.path == after.path || !v.Context.Normalize {
		return true
	}
	return cleaned(before.path) != cleaned(after.path)
}

func cleaned(p string) string {
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/") && clean != "/" {
		clean += "/"
	}
	return clean
}

// requestText is a request cut where mutations reach.
type requestText struct {
	method, path, query, version string
	headers                      []string // lines, folded ones joined by \n
	body                         string
}

func splitTarget(text string) (out requestText) {
	head, body, _ := strings.Cut(text, "\n\n")
	line, headers, _ := strings.Cut(strings.TrimSuffix(head, "\n"), "\n")
	method, rest, _ := strings.Cut(line, " ")
	end := strings.LastIndex(rest, " ")
	path, query, _ := strings.Cut(rest[:end], "?")
	headers = strings.ReplaceAll(headers, "\n ", "\r ")
	out = requestText{method: method, path: path, query: query, version: rest[end+1:], body: body}
	for header := range strings.SplitSeq(headers, "\n") {
		out.headers = append(out.headers, strings.ReplaceAll(header, "\r ", "\n "))
	}
	return out
}

func (q requestText) String() string {
	target := q.path
	if q.query != "" {
		target += "?" + q.query
	}
	return q.method + " " + target + " " + q.version + "\n" + strings.Join(q.headers, "\n") + "\n\n" + q.body
}

// mutations yields every mutant of a request by name.
func mutations(text string) func(yield func(string, string) bool) {
	original := splitTarget(text)
	return func(yield func(string, string) bool) {
		ok := true
		emit := func(name string, q requestText) bool {
			ok = ok && yield(name, q.String())
			return ok
		}
		for _, method := range []string{"PUT", "get", original.method + "X"} {
			q := original
			q.method = method
			emit("method", q)
		}
		for path := range altered(original.path, 1) {
			q := original
			q.path = path
			emit("path "+path, q)
		}
		for query := range altered(original.query, 0) {
			q := original
			q.query = query
			emit("query "+query, q)
		}
		q := original
		q.query += "&added=1"
		emit("parameter added", q)
		for body := range altered(original.body+"\x00", 0) {
			q := original
			q.body = body
			emit("body", q)
		}
		mutateHeaders(original, emit)
	}
}

func mutateHeaders(original requestText, emit func(string, requestText) bool) {
	for i, header := range original.headers {
		name, value, _ := strings.Cut(header, ":")
		with := func(lines ...string) requestText {
			q := original
			q.headers = append(append(append([]string{}, original.headers[:i]...), lines...), original.headers[i+1:]...)
			return q
		}
		emit("header "+name+" dropped", with())
		if name != "Host" && name != "Content-Length" { // which net/http makes one of, or refuses
			emit("header "+name+" doubled", with(header, header))
		}
		for changed := range altered(value, 0) {
			emit("header "+name+":"+changed, with(name+":"+changed))
		}
	}
}

// altered yields s with one byte replaced, for every byte from first on, and
// with one byte appended. Hexadecimal digits stay such, so that a changed
// signature or escape is still well-formed.
func altered(s string, first int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := first; i < len(s); i++ {
			replacement := "b"
			if s[i]|0x20 == 'b' {
				replacement = "c" // %3b says what %3B says
			}
			if s[i] == ' ' && (i == 0 || s[i-1] == ' ' || i+1 == len(s) || s[i+1] == ' ') {
				continue // white space that canonical headers do not have
			}
			if !yield(s[:i] + replacement + s[i+1:]) {
				return
			}
		}
		if s != "" {
			yield(s + "b")
		}
	}
}
