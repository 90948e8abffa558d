package sigv4_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/sigv4"
)

// get is a well-signed request as a server sees it, signed at sdkNow.
func get(t *testing.T, target string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	signed(t, r, sdkNow)
	return r
}

func signed(t testing.TB, r *http.Request, at time.Time) {
	t.Helper()
	key := aws.Credentials{AccessKeyID: exampleKey, SecretAccessKey: exampleSecret}
	if err := v4.NewSigner().SignHTTP(context.Background(), key, r, hashOf(""), "healthlake", "us-east-1", at); err != nil {
		t.Fatal(err)
	}
	r.RequestURI = r.URL.RequestURI()
}

// edited replaces text in the Authorization header.
func edited(t *testing.T, old, new string) *http.Request {
	t.Helper()
	r := get(t, "/datastore/x/r4/Patient")
	before := r.Header.Get("Authorization")
	after := strings.Replace(before, old, new, 1)
	if before == after {
		t.Fatalf("%q is not in %q", old, before)
	}
	r.Header.Set("Authorization", after)
	return r
}

func with(r *http.Request, name string, values ...string) *http.Request {
	r.Header[name] = values
	return r
}

func TestRefusals(t *testing.T) {
	const scope = "/20260102/us-east-1/healthlake/aws4_request"
	plain := func() *http.Request { return httptest.NewRequest(http.MethodGet, "/datastore/x/r4/Patient", nil) }
	tests := map[string]struct {
		request *http.Request
		kind    fault.Kind
		says    string
	}{
		"nothing":                 {plain(), fault.MissingToken, "Missing Authentication Token"},
		"bearer token":            {with(plain(), "Authorization", "Bearer secret-token"), fault.IncompleteSignature, "requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."},
		"empty header":            {with(plain(), "Authorization", ""), fault.IncompleteSignature, "requires 'Credential' parameter."},
		"two headers":             {with(get(t, "/"), "Authorization", "a", "b"), fault.IncompleteSignature, "Only one authentication mechanism"},
		"header and query":        {get(t, "/?X-Amz-Signature=0"), fault.IncompleteSignature, "Only one authentication mechanism"},
		"other algorithm":         {edited(t, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), fault.IncompleteSignature, "AWS4-HMAC-SHA256"},
		"no credential":           {edited(t, "Credential="+exampleKey+scope+", ", ""), fault.IncompleteSignature, "Authorization header requires 'Credential' parameter."},
		"empty credential":        {edited(t, exampleKey+scope, ""), fault.IncompleteSignature, "requires 'Credential' parameter."},
		"no signed headers":       {edited(t, "SignedHeaders=host;x-amz-date, ", ""), fault.IncompleteSignature, "requires 'SignedHeaders' parameter."},
		"no signature":            {edited(t, ", Signature=", ", "), fault.IncompleteSignature, "not a valid key=value pair (missing equal-sign)"},
		"space in a value":        {edited(t, "Credential=", "Credential= "), fault.IncompleteSignature, "not a valid key=value pair"},
		"unknown part":            {edited(t, "Signature=", "Sig=1, Signature="), fault.IncompleteSignature, "other than Credential"},
		"part twice":              {edited(t, "Signature=", "Signature=1, Signature="), fault.IncompleteSignature, "'Signature' twice"},
		"four elements":           {edited(t, "/aws4_request", ""), fault.IncompleteSignature, "exactly 5 slash-delimited elements"},
		"no key id":               {edited(t, exampleKey, ""), fault.IncompleteSignature, "exactly 5 slash-delimited elements"},
		"host unsigned":           {edited(t, "host;", ""), fault.IncompleteSignature, "'Host' or ':authority' must be a 'SignedHeader'"},
		"header twice":            {edited(t, "host;", "host;host;"), fault.IncompleteSignature, "SignedHeaders is not a list"},
		"upper-case header":       {edited(t, "host;", "Host;"), fault.IncompleteSignature, "SignedHeaders is not a list"},
		"empty header name":       {edited(t, "host;", "host;;"), fault.IncompleteSignature, "SignedHeaders is not a list"},
		"header gone":             {edited(t, "host;", "accept;host;"), fault.IncompleteSignature, "'accept' is named as a SignedHeader, but it does not exist"},
		"many headers":            {edited(t, "host;", "host;"+manyNames(64)), fault.IncompleteSignature, "more than 64 headers"},
		"long header":             {edited(t, "Signature=", "Signature="+strings.Repeat("0", 8<<10)), fault.IncompleteSignature, "longer than 8192 bytes"},
		"target unsigned":         {with(get(t, "/"), "X-Amz-Target", "HealthLake.DeleteFHIRDatastore"), fault.IncompleteSignature, "'X-Amz-Target' must be a 'SignedHeader'"},
		"no date":                 {with(get(t, "/"), "X-Amz-Date"), fault.IncompleteSignature, "either a 'X-Amz-Date' or a 'Date' header"},
		"broken date":             {with(get(t, "/"), "X-Amz-Date", "2026-01-02T03:04:05Z"), fault.IncompleteSignature, "ISO-8601 'basic format'"},
		"two dates":               {with(get(t, "/"), "X-Amz-Date", "20260102T030405Z", "20260102T030405Z"), fault.IncompleteSignature, "ISO-8601 'basic format'"},
		"other region":            {edited(t, "us-east-1", "eu-west-1"), fault.BadSignature, "Credential should be scoped to a valid region."},
		"other service":           {edited(t, "healthlake", "s3"), fault.BadSignature, "Credential should be scoped to correct service: 'healthlake'."},
		"other terminator":        {edited(t, "aws4_request", "aws5_request"), fault.BadSignature, "valid terminator: 'aws4_request'"},
		"other day":               {edited(t, "20260102", "20260103"), fault.BadSignature, "'20260103' != '20260102', from '20260102T030405Z'."},
		"unknown key":             {edited(t, exampleKey, "AKIDNOBODY"), fault.UnknownKey, "The security token included in the request is invalid."},
		"session token of nobody": {with(get(t, "/"), "X-Amz-Security-Token", "t"), fault.UnknownKey, "The security token included in the request is invalid."},
		"signature cut":           {edited(t, "Signature=", "Signature=0"), fault.BadSignature, "The request signature we calculated does not match"},
		"signature of nothing":    {with(get(t, "/"), "Authorization", "AWS4-HMAC-SHA256 Credential="+exampleKey+scope+",SignedHeaders=host,Signature=x"), fault.BadSignature, "does not match"},
		"chunks":                  {with(get(t, "/"), "X-Amz-Content-Sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"), fault.NotSupported, "aws-chunked"},
		"unsigned body":           {with(get(t, "/"), "X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"), fault.BadSignature, "only over TLS or loopback"},
		"another body's hash":     {with(get(t, "/"), "X-Amz-Content-Sha256", hashOf("x")), fault.BadSignature, "'x-amz-content-sha256' header does not match"},
		"long target":             {get(t, "/?a="+strings.Repeat("a", 16<<10)), fault.TooLarge, "longer than 16384 bytes"},
	}
	verifier := mustNew(t, healthlake(sdkNow))
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			who, err := verifier.Verify(test.request, nil)
			refusal := fault.From(err)
			if who != nil || err == nil || refusal.Kind != test.kind || !strings.Contains(refusal.Message(), test.says) {
				t.Errorf("signed by %v, %v: %q\nwant %v: %q", who, refusal.Kind, refusal.Message(), test.kind, test.says)
			}
			if strings.Contains(refusal.Message(), "secret-token") {
				t.Errorf("the bearer token is shown: %s", refusal.Message())
			}
		})
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "h%d;", i)
	}
	return b.String()
}

func TestClockSkew(t *testing.T) {
	for _, test := range []struct {
		ahead time.Duration // of the server's clock
		says  string        // empty: taken
	}{
		{0, ""},
		{15 * time.Minute, ""},
		{-15 * time.Minute, ""},
		{15*time.Minute + time.Second, "Signature expired: 20260102T030405Z is now earlier than 20260102T030406Z (20260102T031906Z - 15 min.)"},
		{-15*time.Minute - time.Second, "Signature not yet current: 20260102T030405Z is still later than 20260102T030404Z (20260102T024904Z + 15 min.)"},
	} {
		_, err := mustNew(t, healthlake(sdkNow.Add(test.ahead))).Verify(get(t, "/"), nil)
		if (err == nil) != (test.says == "") || err != nil && fault.From(err).Message() != test.says {
			t.Errorf("%v ahead: %v, want %q", test.ahead, err, test.says)
		}
		if err != nil && !fault.Is(err, fault.BadSignature) {
			t.Errorf("%v ahead: %v is no BadSignature", test.ahead, err)
		}
	}
}

func TestPresignedExpiry(t *testing.T) {
	s := newSDK(t, healthlake(sdkNow))
	presigned := func(expires string) *http.Request {
		r := s.presign(t, s.request(t, http.MethodGet, "/datastore/x/r4/Patient", ""), expires)
		r.RequestURI = r.URL.RequestURI()
		return r
	}
	for _, test := range []struct {
		expires string
		ahead   time.Duration
		kind    fault.Kind // Internal: taken
	}{
		{"60", 60 * time.Second, fault.Internal},
		{"60", 61 * time.Second, fault.BadSignature},
		{"60", -15 * time.Minute, fault.Internal},
		{"60", -16 * time.Minute, fault.BadSignature},
		{"604800", 7 * 24 * time.Hour, fault.Internal},
		{"604800", 7*24*time.Hour + time.Second, fault.BadSignature},
		{"604801", 0, fault.IncompleteSignature},
		{"0", 0, fault.IncompleteSignature},
		{"-1", 0, fault.IncompleteSignature},
		{"1e3", 0, fault.IncompleteSignature},
		{"", 15 * time.Minute, fault.Internal},
		{"", 16 * time.Minute, fault.BadSignature},
	} {
		who, err := mustNew(t, healthlake(sdkNow.Add(test.ahead))).Verify(presigned(test.expires), nil)
		if test.kind == fault.Internal {
			if err != nil || !who.Presigned {
				t.Errorf("expires %q, %v ahead: %+v, %v", test.expires, test.ahead, who, err)
			}
		} else if !fault.Is(err, test.kind) {
			t.Errorf("expires %q, %v ahead: %v, want %v", test.expires, test.ahead, err, test.kind)
		}
	}
}

func TestPresignedLacking(t *testing.T) {
	s := newSDK(t, healthlake(sdkNow))
	verifier := mustNew(t, healthlake(sdkNow))
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		r := s.presign(t, s.request(t, http.MethodGet, "/", ""), "60")
		query := r.URL.Query()
		query.Del(name)
		r.RequestURI = "/?" + query.Encode()
		if _, err := verifier.Verify(r, nil); !fault.Is(err, fault.IncompleteSignature) || !strings.Contains(err.Error(), "'"+name+"'") {
			t.Errorf("without %s: %v", name, err)
		}
		query = r.URL.Query()
		query.Add(name, query.Get(name))
		r.RequestURI = "/?" + query.Encode()
		if _, err := verifier.Verify(r, nil); !fault.Is(err, fault.IncompleteSignature) {
			t.Errorf("%s twice: %v", name, err)
		}
	}
}

func TestExpiredCredentials(t *testing.T) {
	config := healthlake(sdkNow)
	for _, test := range []struct {
		left    time.Duration
		secret  string
		kind    fault.Kind
		refused bool
	}{
		{time.Second, exampleSecret, 0, false},
		{0, exampleSecret, fault.ExpiredToken, true},
		{-time.Hour, exampleSecret, fault.ExpiredToken, true},
		{-time.Hour, "another", fault.BadSignature, true}, // whoever cannot sign learns nothing of the key
	} {
		config.Keys = oneKey{exampleKey, sigv4.Credential{SecretAccessKey: test.secret, Expiry: sdkNow.Add(test.left)}}
		_, err := mustNew(t, config).Verify(get(t, "/"), nil)
		if test.refused != (err != nil) || err != nil && !fault.Is(err, test.kind) {
			t.Errorf("%v left: %v", test.left, err)
		}
	}
}

// failingKeys cannot answer.
type failingKeys struct{ err error }

func (k failingKeys) Secret(context.Context, string) (sigv4.Credential, error) {
	return sigv4.Credential{}, k.err
}

func TestKeysThatFail(t *testing.T) {
	config := healthlake(sdkNow)
	broken := errors.New("disk on fire")
	config.Keys = failingKeys{broken}
	if _, err := mustNew(t, config).Verify(get(t, "/"), nil); !fault.Is(err, fault.Internal) || !errors.Is(err, broken) {
		t.Errorf("error = %v, want Internal around %v", err, broken)
	}
	config.Keys = failingKeys{&fault.Error{Kind: fault.Unavailable}}
	if _, err := mustNew(t, config).Verify(get(t, "/"), nil); !fault.Is(err, fault.Unavailable) {
		t.Errorf("error = %v, want Unavailable", err)
	}
	config.Keys = failingKeys{nil} // knows every key, with an empty secret
	if _, err := mustNew(t, config).Verify(get(t, "/"), nil); !fault.Is(err, fault.UnknownKey) {
		t.Errorf("error = %v, want UnknownKey", err)
	}
}

func TestDates(t *testing.T) {
	for name, format := range map[string]string{
		"ISO 8601":          "20060102T150405Z",
		"HTTP":              http.TimeFormat,
		"RFC 5322, -0000":   "Mon, 02 Jan 2006 15:04:05 -0000",
		"RFC 850":           "Monday, 02-Jan-06 15:04:05 GMT",
		"X-Amz-Date beside": "",
	} {
		r := get(t, "/")
		if format != "" {
			delete(r.Header, "X-Amz-Date")
			resign(t, r, "host;date", map[string]string{"Date": sdkNow.Format(format)})
		} else {
			r.Header.Set("Date", "not looked at")
		}
		who, err := mustNew(t, healthlake(sdkNow)).Verify(r, nil)
		if err != nil || !who.SignedAt.Equal(sdkNow) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
	}
}

func TestHosts(t *testing.T) {
	proxied := sigv4.ForwardedHosts(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128"))
	for name, test := range map[string]struct {
		signed, sent string
		remote       string
		headers      map[string]string
		taken        bool
	}{
		"as sent":                {signed: "tarn.example:8443", sent: "tarn.example:8443", taken: true},
		"another":                {signed: "tarn.example", sent: "other.example"},
		"default port":           {signed: "tarn.example", sent: "tarn.example:443", taken: true},
		"case":                   {signed: "tarn.example", sent: "Tarn.Example", taken: true},
		"IPv6":                   {signed: "[::1]:8080", sent: "[::1]:8080", taken: true},
		"proxy":                  {signed: "tarn.example", sent: "inner:8080", remote: "10.1.2.3:5", headers: map[string]string{"X-Forwarded-Host": "tarn.example"}, taken: true},
		"proxy, IPv6":            {signed: "tarn.example", sent: "inner:8080", remote: "[::1]:5", headers: map[string]string{"X-Forwarded-Host": "tarn.example"}, taken: true},
		"proxy, mapped IPv4":     {signed: "tarn.example", sent: "inner:8080", remote: "[::ffff:10.1.2.3]:5", headers: map[string]string{"X-Forwarded-Host": "tarn.example"}, taken: true},
		"proxies":                {signed: "tarn.example", sent: "inner:8080", remote: "10.1.2.3:5", headers: map[string]string{"X-Forwarded-Host": "tarn.example, middle"}, taken: true},
		"proxy, port":            {signed: "tarn.example:8443", sent: "inner:8080", remote: "10.1.2.3:5", headers: map[string]string{"X-Forwarded-Host": "tarn.example", "X-Forwarded-Port": "8443"}, taken: true},
		"proxy, IPv6 host":       {signed: "[::1]:8443", sent: "inner:8080", remote: "10.1.2.3:5", headers: map[string]string{"X-Forwarded-Host": "[::1]", "X-Forwarded-Port": "8443"}, taken: true},
		"proxy that says less":   {signed: "tarn.example", sent: "inner:8080", remote: "10.1.2.3:5"},
		"stranger":               {signed: "tarn.example", sent: "inner:8080", remote: "11.1.2.3:5", headers: map[string]string{"X-Forwarded-Host": "tarn.example"}},
		"stranger without place": {signed: "tarn.example", sent: "inner:8080", remote: "@", headers: map[string]string{"X-Forwarded-Host": "tarn.example"}},
		"long list":              {signed: "tarn.example", sent: "inner:8080", remote: "10.1.2.3:5", headers: map[string]string{"X-Forwarded-Host": "a,b,c,d,e,tarn.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.Host = test.signed
			signed(t, r, sdkNow)
			r.Host, r.RemoteAddr = test.sent, test.remote
			for header, value := range test.headers {
				r.Header.Set(header, value)
			}
			config := healthlake(sdkNow)
			config.Hosts = proxied
			if _, err := mustNew(t, config).Verify(r, nil); (err == nil) != test.taken {
				t.Errorf("error = %v, want taken: %v", err, test.taken)
			}
		})
	}
}

func TestAbsoluteTarget(t *testing.T) {
	r := get(t, "/datastore/x/r4/Patient?name=a")
	r.RequestURI = "http://example.com" + r.RequestURI
	if _, err := mustNew(t, healthlake(sdkNow)).Verify(r, nil); err != nil {
		t.Errorf("a target as clients of proxies write it: %v", err)
	}
	r = get(t, "/")
	r.RequestURI = "http://example.com"
	if _, err := mustNew(t, healthlake(sdkNow)).Verify(r, nil); err != nil {
		t.Errorf("a target without a path: %v", err)
	}
}

func TestPresented(t *testing.T) {
	r := func(target, authorization string) *http.Request {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		return r
	}
	for name, test := range map[string]struct {
		request *http.Request
		want    bool
	}{
		"nothing":    {r("/", ""), false},
		"bearer":     {r("/", "Bearer a.b.c"), false},
		"header":     {r("/", "AWS4-HMAC-SHA256 Credential=x"), true},
		"asymmetric": {r("/", "AWS4-ECDSA-P256-SHA256 Credential=x"), true},
		"presigned":  {r("/?a=b&X-Amz-Signature=0", ""), true},
		"escaped":    {r("/?X%2DAmz-Algorithm=AWS4-HMAC-SHA256", ""), true},
		"search":     {r("/?name=X-Amz-Signature", ""), false},
	} {
		if got := sigv4.Presented(test.request); got != test.want {
			t.Errorf("%s: Presented = %v, want %v", name, got, test.want)
		}
	}
}

func TestReadBody(t *testing.T) {
	config := healthlake(sdkNow)
	config.MaxBody = 4
	verifier := mustNew(t, config)
	read := func(body io.Reader) ([]byte, error) {
		r := httptest.NewRequest(http.MethodPost, "/", body)
		return verifier.ReadBody(r)
	}
	for body, kind := range map[string]fault.Kind{"": fault.Internal, "1234": fault.Internal, "12345": fault.TooLarge} {
		for _, reader := range []io.Reader{strings.NewReader(body), iotest.OneByteReader(strings.NewReader(body))} {
			got, err := read(reader)
			if kind == fault.Internal && (err != nil || string(got) != body) || kind != fault.Internal && !fault.Is(err, kind) {
				t.Errorf("body %q: %q, %v", body, got, err)
			}
		}
	}
	if _, err := read(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("123")))); !fault.Is(err, fault.Syntax) {
		t.Errorf("a body that breaks off: %v", err)
	}
	capped := httptest.NewRequest(http.MethodPost, "/", iotest.OneByteReader(strings.NewReader("123")))
	capped.Body = http.MaxBytesReader(httptest.NewRecorder(), capped.Body, 2)
	if _, err := verifier.ReadBody(capped); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a body over a limit set before: %v", err)
	}
	if _, err := verifier.Verify(get(t, "/"), []byte("12345")); !fault.Is(err, fault.TooLarge) {
		t.Errorf("a body over the limit, given: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*sigv4.Config){
		"region":  func(c *sigv4.Config) { c.Region = "" },
		"service": func(c *sigv4.Config) { c.Service = "" },
		"clock":   func(c *sigv4.Config) { c.Clock = nil },
		"keys":    func(c *sigv4.Config) { c.Keys = nil },
		"bodies":  func(c *sigv4.Config) { c.MaxBody = 0 },
		"skew":    func(c *sigv4.Config) { c.MaxSkew = -1 },
	} {
		config := healthlake(sdkNow)
		spoil(&config)
		if v, err := sigv4.New(config); err == nil || v != nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

func TestWithoutAuth(t *testing.T) {
	for in, want := range map[string]string{
		"":                                    "",
		"name=a":                              "name=a",
		"name=a%20b&_id=a,b":                  "name=a%20b&_id=a,b",
		"X-Amz-Signature=0":                   "",
		"a=1&X-Amz-Date=2&b=3":                "a=1&b=3",
		"a=1&X%2DAmz-Credential=x&X-Amz-Foo=": "a=1&X-Amz-Foo=",
	} {
		if got := sigv4.WithoutAuth(in); got != want {
			t.Errorf("WithoutAuth(%q) = %q, want %q", in, got, want)
		}
	}
}

// resign signs r anew with headers that the SDK's signer would not choose.
func resign(t *testing.T, r *http.Request, names string, headers map[string]string) {
	t.Helper()
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	u, err := url.ParseRequestURI(r.RequestURI)
	if err != nil {
		t.Fatal(err)
	}
	lines := ""
	for name := range strings.SplitSeq(names, ";") {
		value := r.Header.Get(name)
		if name == "host" {
			value = r.Host
		}
		lines += name + ":" + value + "\n"
	}
	canonical := strings.Join([]string{r.Method, u.EscapedPath(), u.RawQuery, lines, names, hashOf("")}, "\n")
	signature := sigv4.SignatureOf(exampleSecret, sdkNow, "us-east-1", "healthlake", canonical)
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+exampleKey+"/20260102/us-east-1/healthlake/aws4_request, SignedHeaders="+names+", Signature="+signature)
}
