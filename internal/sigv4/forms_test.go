package sigv4

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"
)

func TestPathForms(t *testing.T) {
	for _, test := range []struct {
		wire string
		want []string
	}{
		{"/", []string{"/"}},
		{"/datastore/x/r4/Patient/1.a-b_c~", []string{"/datastore/x/r4/Patient/1.a-b_c~"}},
		{"/r4//Patient/", []string{"/r4/Patient/", "/r4//Patient/"}},
		{"/r4/./a/../Patient", []string{"/r4/Patient", "/r4/./a/../Patient"}},
		{"/r4/$everything", []string{"/r4/%24everything", "/r4/$everything"}},
		{"/r4/%24everything", []string{"/r4/%2524everything", "/r4/%24everything"}},
		{"/r4//%e2%98%83", []string{
			"/r4/%25e2%2598%2583", "/r4//%25e2%2598%2583",
			"/r4/%E2%98%83", "/r4//%E2%98%83", "/r4//%e2%98%83",
		}},
		{"/a%2Fb", []string{"/a%252Fb", "/a%2Fb"}}, // never /a/b
		{"/a%zz", []string{"/a%25zz", "/a%zz"}},
		{"/..//../", []string{"/", "/..//../"}},
		{"*", []string{"/%2A", "%2A", "*"}},
	} {
		if got := pathForms(test.wire); !slices.Equal(got, test.want) {
			t.Errorf("pathForms(%q) = %q, want %q", test.wire, got, test.want)
		}
	}
}

func TestQueryForms(t *testing.T) {
	for _, test := range []struct {
		wire string
		want []string
	}{
		{"", []string{""}},
		{"name=B", []string{"name=B"}},
		{"name=b&name=a", []string{"name=a&name=b", "name=b&name=a"}},
		{"_summary", []string{"_summary=", "_summary"}},
		{"_id=a,b", []string{"_id=a%2Cb", "_id=a,b"}},
		{"page=QUJD==", []string{"page=QUJD%3D%3D", "page=QUJD=="}},
		{"d=a+b", []string{"d=a%20b", "d=a%2Bb", "d=a+b"}},
		{"d=a%2Bb", []string{"d=a%2Bb"}},
		{"c=http://x%7C1", []string{"c=http%3A%2F%2Fx%7C1", "c=http://x%7C1", "c=http://x|1"}},
		{"name=b&name:exact=a", []string{
			"name=b&name%3Aexact=a", "name=b&name:exact=a", "name%3Aexact=a&name=b", "name:exact=a&name=b",
		}},
		{"a=1&&b=2", []string{"a=1&b=2", "=&a=1&b=2", "a=1&&b=2"}},
	} {
		if got := queryForms(splitQuery(test.wire)); !slices.Equal(got, test.want) {
			t.Errorf("queryForms(%q) = %q, want %q", test.wire, got, test.want)
		}
	}
}

// TestCandidatesAreBounded asks for every form at once.
func TestCandidatesAreBounded(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RequestURI = "/a//%e2%98%83/$x?b=%7C+1&a:b=%2B&a=,&" + paramToken + "=t&" + paramSignature + "=0"
	target, err := readTarget(r)
	if err != nil {
		t.Fatal(err)
	}
	s := &signedRequest{
		request: r, target: target,
		claim:    &claim{presigned: true, token: "t"},
		headers:  []string{"1", "2", "3", "4"},
		payloads: []string{"1", "2"},
	}
	tried := 0
	s.forms(func([]byte) bool { tried++; return true })
	if tried != candidatesMax {
		t.Errorf("%d candidates, want the bound of %d", tried, candidatesMax)
	}
	tried = 0
	s.forms(func([]byte) bool { tried++; return tried < 3 })
	if tried != 3 {
		t.Errorf("%d candidates after being told to stop at 3", tried)
	}
}

func TestTrimmedHeaders(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"   ":             "",
		"a":               "a",
		"  a  b\t \tc  ":  "a b c",
		`"a   b   c"`:     `"a b c"`,
		"a\r\n b":         "a b",
		"\u00a0a\u00a0\t": "\u00a0a\u00a0", // only ASCII white space is any
	} {
		var b strings.Builder
		if writeTrimmed(&b, in); b.String() != want {
			t.Errorf("trimmed %q = %q, want %q", in, b.String(), want)
		}
	}
}

func TestSigningKeys(t *testing.T) {
	keys := newSigningKeys(2)
	key := func(id, secret string) string {
		return string(keys.key(id, secret, "20260102", "us-east-1", "healthlake").key)
	}
	first := key("a", "secret")
	if want := string(deriveKey("secret", "20260102", "us-east-1", "healthlake")); first != want || key("a", "secret") != want {
		t.Errorf("kept key %x, want %x", first, want)
	}
	if key("a", "rotated") == first {
		t.Error("a rotated secret still signs with its old key")
	}
	if key("a", "secret") != first {
		t.Error("a secret rotated back signs with another key")
	}
	key("b", "b")
	key("a", "secret")
	key("c", "c") // b was used least lately
	if len(keys.byID) != 2 || keys.used.Len() != 2 {
		t.Errorf("%d keys in %d places, want the bound of 2", keys.used.Len(), len(keys.byID))
	}
	if _, found := keys.byID[signingKeyID{"b", "20260102", "us-east-1", "healthlake"}]; found {
		t.Error("the key used least lately is kept")
	}
}

// TestStrangersShareOneKey checks that access keys nobody knows, whose number
// is without bound, do not drive known ones out of the cache.
func TestStrangersShareOneKey(t *testing.T) {
	v, err := New(Config{Region: "r", Service: "s", Clock: time.Now, Keys: noKeys{}, MaxBody: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"AKID1", "AKID2", "AKID3"} {
		s := &signedRequest{request: httptest.NewRequest(http.MethodGet, "/", nil), claim: &claim{accessKeyID: id}}
		if _, err := v.judge(t.Context(), s); err == nil {
			t.Errorf("%s is known", id)
		}
	}
	if got := len(v.keys.byID); got != 1 {
		t.Errorf("%d signing keys are kept for three strangers, want 1", got)
	}
}

func FuzzParseAuthorization(f *testing.F) {
	const good = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, Signature=c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea"
	for _, seed := range []string{
		good, strings.ReplaceAll(good, ", ", ","), strings.Replace(good, "host;", "", 1),
		"Bearer a.b.c", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 =,=,=", "",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		c, err := parseAuthorization(header, false)
		if err != nil {
			return
		}
		if c.accessKeyID == "" || c.signature == "" || !c.signs("host") || len(c.names) > signedHeadersMax {
			t.Errorf("%q is read as %+v", header, c)
		}
		again, err := parseAuthorization(algorithm+" Credential="+c.accessKeyID+"/"+scopeOf(c)+
			",SignedHeaders="+c.signedHeaders+",Signature="+c.signature, false)
		if err != nil || again.accessKeyID != c.accessKeyID || scopeOf(again) != scopeOf(c) || again.signature != c.signature {
			t.Errorf("%q is read as %+v, which is read as %+v, %v", header, c, again, err)
		}
	})
}

// FuzzCanonicalQuery holds the first form against net/url, which takes queries
// apart by the same rules where it takes them at all.
func FuzzCanonicalQuery(f *testing.F) {
	for _, seed := range []string{
		"", "a", "a=", "=a", "a=b&a=a", "a%20b=c+d", "_id=a,b", "page=QUJD==", "&&", "%", "%4", "%zz=%", "a=%C3%A9&a=é", "a/b=1&a-b=2&a=3",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		forms := queryForms(splitQuery(query))
		checkForms(t, query, forms, 7)
		if got := queryForms(splitQuery(forms[0])); got[0] != forms[0] {
			t.Errorf("%q is canonical as %q, which is canonical as %q", query, forms[0], got[0])
		}
		if values, err := url.ParseQuery(query); err == nil && forms[0] != encodeValues(values) {
			t.Errorf("%q is canonical as %q, want %q", query, forms[0], encodeValues(values))
		}
	})
}

// encodeValues is the canonical query of decoded values, the plain way.
func encodeValues(values url.Values) string {
	var lines [][2]string
	for name, list := range values {
		for _, value := range list {
			lines = append(lines, [2]string{url.QueryEscape(name), url.QueryEscape(value)})
		}
	}
	for i := range lines {
		lines[i][0] = strings.ReplaceAll(lines[i][0], "+", "%20")
		lines[i][1] = strings.ReplaceAll(lines[i][1], "+", "%20")
	}
	sort.Slice(lines, func(i, j int) bool {
		return lines[i][0] < lines[j][0] || lines[i][0] == lines[j][0] && lines[i][1] < lines[j][1]
	})
	var texts []string
	for _, line := range lines {
		texts = append(texts, line[0]+"="+line[1])
	}
	return strings.Join(texts, "&")
}

// FuzzCanonicalPath holds normalisation against package path.
func FuzzCanonicalPath(f *testing.F) {
	for _, seed := range []string{"/", "//", "/./", "/a/../b", "/../a", "/a//b/", "/%2F", "/%", "/a b/é", "*", "", "/a/.", "/a/.."} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, wire string) {
		checkForms(t, wire, pathForms(wire), 5)
		clean := path.Clean("/" + wire)
		if strings.HasSuffix(wire, "/") && clean != "/" {
			clean += "/"
		}
		if got := normalize(wire); got != clean {
			t.Errorf("normalize(%q) = %q, want %q", wire, got, clean)
		}
		if strings.Count(escapeOnce(wire), "/") != strings.Count(wire, "/") {
			t.Errorf("escapeOnce(%q) = %q: an escaped slash parts segments", wire, escapeOnce(wire))
		}
	})
}

func checkForms(t *testing.T, wire string, forms []string, max int) {
	t.Helper()
	if len(forms) == 0 || len(forms) > max {
		t.Errorf("%q has %d forms", wire, len(forms))
	}
	if unique := slices.Compact(slices.Sorted(slices.Values(forms))); len(unique) != len(forms) {
		t.Errorf("%q has equal forms: %q", wire, forms)
	}
}
