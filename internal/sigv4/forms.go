package sigv4

import (
	"net/http"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Bounds of the work that one request may ask for. Every form costs one SHA-256
// over the canonical request and one HMAC; nearly all requests have one form.
const (
	// targetBytesMax bounds path and query together, as sent.
	targetBytesMax = 16 << 10
	// hostsMax bounds the hosts that are tried.
	hostsMax = 4
	// candidatesMax bounds the canonical requests that are tried.
	candidatesMax = 128
)

// target is a request's path and query as they came over the wire.
type target struct {
	path  string
	pairs []pair
}

// pair is one parameter of a query as sent, still escaped.
type pair struct {
	name, value string
	bare        bool // sent without "="
}

// readTarget takes the request target apart, without decoding anything.
func readTarget(r *http.Request) (target, error) {
	raw := rawTarget(r)
	if len(raw) > targetBytesMax {
		return target{}, fault.New(fault.TooLarge, opVerify, "the request target is longer than %d bytes", targetBytesMax)
	}
	path, query, _ := strings.Cut(raw, "?")
	if path == "" {
		path = "/"
	}
	return target{path: path, pairs: splitQuery(query)}, nil
}

// rawTarget is what stood in the request line (":path" of HTTP/2), without
// scheme and authority where a proxy's client wrote them (RFC 9112 section
// 3.2.2). A request that never was on a wire has none; its URL stands in.
func rawTarget(r *http.Request) string {
	raw := r.RequestURI
	if raw == "" {
		return r.URL.RequestURI()
	}
	if strings.HasPrefix(raw, "/") {
		return raw
	}
	_, afterScheme, absolute := strings.Cut(raw, "://")
	if !absolute {
		return raw
	}
	if at := strings.IndexAny(afterScheme, "/?"); at >= 0 {
		return afterScheme[at:]
	}
	return "/"
}

func splitQuery(query string) []pair {
	if query == "" {
		return nil
	}
	pairs := make([]pair, 0, strings.Count(query, "&")+1)
	for element := range strings.SplitSeq(query, "&") {
		name, value, found := strings.Cut(element, "=")
		pairs = append(pairs, pair{name, value, !found})
	}
	return pairs
}

// pathForms lists the canonical paths that a client may have signed for a path
// as sent, likeliest first. Each is what a real client makes:
//
//   - normalised, then escaped once more than it was sent: the specification.
//     botocore (boto3, AWS CLI), AWS SDK for JavaScript v3, aws4, aws4fetch,
//     requests-aws4auth. /r4//Patient/%24x becomes /r4/Patient/%2524x.
//   - escaped once more, as sent otherwise: AWS SDK for Go v2's signer, which
//     normalises nothing, and curl since it escapes paths.
//   - normalised, escaped once: botocore given a path with $ or ☃ in it; it
//     signs that path escaped, and its HTTP library escapes the same path, or
//     leaves $ alone, when it sends. /r4/Patient/$x becomes /r4/Patient/%24x.
//   - escaped once, as sent otherwise: signers told not to escape paths twice,
//     as S3's rule is (SDK for Go v2 with DisableURIPathEscaping).
//   - as sent: curl 7.75 to 8.x (--aws-sigv4).
func pathForms(wire string) []string {
	if isPlainPath(wire) {
		return []string{wire}
	}
	normal := normalize(wire)
	return distinct(
		escape(normal, keepSlash),
		escape(wire, keepSlash),
		escapeOnce(normal),
		escapeOnce(wire),
		wire,
	)
}

// queryForms lists the canonical queries that a client may have signed for the
// pairs as sent, likeliest first. Each is what a real client makes:
//
//   - taken apart with + as space, escaped, sorted by name and then value: the
//     specification as SDKs for Go v2 and JavaScript v3, aws4 and aws4fetch
//     follow it.
//   - the same with + as itself: signers that take a query apart by RFC 3986
//     and not by the rules of HTML forms.
//   - as sent, sorted by name and then value: botocore given an address with
//     its query in it, which it does not escape (_id=a,b and page=QUJD==).
//   - the same, with what no query may hold unescaped: botocore again; | and ☃
//     are signed as given and escaped by its HTTP library when sent.
//   - as sent, order and all: curl 7.75 to 8.x.
//   - escaped, or as sent, sorted as whole "name=value" texts: signers written
//     by hand; name%3Aexact=a comes before name=b there.
func queryForms(pairs []pair) []string {
	if len(pairs) == 0 {
		return []string{""}
	}
	spaced, plussed := reescape(pairs, plusIsSpace), reescape(pairs, plusIsPlus)
	illegal := make([]pair, len(pairs))
	for i, p := range pairs {
		illegal[i] = pair{unescapeIllegal(p.name), unescapeIllegal(p.value), p.bare}
	}
	return distinct(
		firstQuery(spaced),
		join(sorted(plussed, byNameThenValue)),
		join(sorted(pairs, byNameThenValue)),
		join(sorted(illegal, byNameThenValue)),
		verbatim(pairs),
		join(sorted(spaced, byText)),
		join(sorted(pairs, byText)),
	)
}

// firstQuery is the likeliest canonical query, of pairs escaped anew.
func firstQuery(spaced []pair) string { return join(sorted(spaced, byNameThenValue)) }

// queryList is queryForms of these pairs, of which those behind the likeliest are
// made only when they are asked for.
type queryList struct {
	pairs []pair
	forms []string // the likeliest alone, or all
	whole bool
}

func (q *queryList) all(yield func(string) bool) {
	if q.forms == nil {
		q.forms = []string{firstQuery(reescape(q.pairs, plusIsSpace))}
	}
	if !yield(q.forms[0]) {
		return
	}
	if !q.whole {
		q.forms, q.whole = queryForms(q.pairs), true
	}
	for _, form := range q.forms[1:] {
		if !yield(form) {
			return
		}
	}
}

// reescape escapes names and values anew. Empty elements, as && leaves them,
// are no parameters.
func reescape(pairs []pair, plus plusRule) []pair {
	out := make([]pair, 0, len(pairs))
	for _, p := range pairs {
		if p.name == "" && p.bare {
			continue
		}
		name, value := unescape(p.name, plus), unescape(p.value, plus)
		out = append(out, pair{name: escape(name, escapeSlash), value: escape(value, escapeSlash)})
	}
	return out
}

func byNameThenValue(a, b pair) int {
	if order := strings.Compare(a.name, b.name); order != 0 {
		return order
	}
	return strings.Compare(a.value, b.value)
}

func byText(a, b pair) int {
	return strings.Compare(a.name+"="+a.value, b.name+"="+b.value)
}

func sorted(pairs []pair, order func(a, b pair) int) []pair {
	if slices.IsSortedFunc(pairs, order) {
		return pairs
	}
	out := slices.Clone(pairs)
	slices.SortStableFunc(out, order)
	return out
}

// join writes pairs with "=" in each, as every canonical query has it.
func join(pairs []pair) string {
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name)
		b.WriteByte('=')
		b.WriteString(p.value)
	}
	return b.String()
}

// verbatim writes pairs as they were sent.
func verbatim(pairs []pair) string {
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name)
		if !p.bare {
			b.WriteString("=" + p.value)
		}
	}
	return b.String()
}

// signedPairs lists the queries that the query form may have signed: without
// its signature, and with or without the session token, which some services
// have appended after signing (omit_session_token of aws-c-auth).
func (c *claim) signedPairs(pairs []pair) [][]pair {
	if !c.presigned {
		return [][]pair{pairs}
	}
	unsigned := without(pairs, paramSignature)
	if c.token == "" {
		return [][]pair{unsigned}
	}
	return [][]pair{unsigned, without(unsigned, paramToken)}
}

func without(pairs []pair, name string) []pair {
	return slices.DeleteFunc(slices.Clone(pairs), func(p pair) bool {
		return unescape(p.name, plusIsSpace) == name
	})
}

// hostForms lists the hosts that a client may have signed:
//
//   - the Host header (":authority" of HTTP/2) as sent;
//   - the same in lower case and without the port that its scheme has anyway:
//     botocore and the SDK for Go v2 sign that, whatever is sent;
//   - those that Config.Hosts names.
func (v *Verifier) hostForms(r *http.Request) []string {
	hosts := []string{r.Host, plainHost(r.Host)}
	if v.config.Hosts != nil {
		for _, host := range v.config.Hosts(r) {
			hosts = append(hosts, host, plainHost(host))
		}
	}
	hosts = distinct(hosts...)
	return hosts[:min(len(hosts), hostsMax)]
}

func plainHost(host string) string {
	host = strings.ToLower(host)
	for _, port := range []string{":80", ":443"} {
		if rest, found := strings.CutSuffix(host, port); found {
			return rest
		}
	}
	return host
}

// distinct drops what came before; the order stays.
func distinct(forms ...string) []string {
	kept := forms[:0]
	for _, form := range forms {
		if !slices.Contains(kept, form) {
			kept = append(kept, form)
		}
	}
	return kept
}
