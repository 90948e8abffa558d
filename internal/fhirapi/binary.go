package fhirapi

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/interaction"
)

// securityContext is the header that names, with content as it is, what decides
// who may see it (R4 binary.html#security-context).
const securityContext = "X-Security-Context"

// readsBinary reports whether the request reads one Binary, whose content can be
// had as it is.
func (x *exchange) readsBinary() bool {
	reads := x.r.Method == http.MethodGet || x.r.Method == http.MethodHead
	return reads && (len(x.path) == 2 || len(x.path) == 4) && x.path[0] == "Binary"
}

// wrapContent makes a Binary of a body of any type but FHIR's own (R4
// binary.html#rest).
func (x *exchange) wrapContent() {
	given := x.r.Header.Get("Content-Type")
	media, _ := mediaType(given)
	if x.path[0] != "Binary" || media == "" || slices.Contains(jsonTypes, media) || slices.Contains(xmlTypes, media) {
		return
	}
	body := []byte(`{"resourceType":"Binary",`)
	if len(x.path) > 1 {
		body = append(fhir.AppendString(append(body, `"id":`...), x.path[1]), ',')
	}
	body = fhir.AppendString(append(body, `"contentType":`...), given)
	if of := x.r.Header.Get(securityContext); of != "" {
		body = append(fhir.AppendString(append(body, `,"securityContext":{"reference":`...), of), '}')
	}
	if len(x.Body) > 0 {
		body = append(body, `,"data":"`...)
		body = append(base64.StdEncoding.AppendEncode(body, x.Body), '"')
	}
	body = append(body, '}')
	x.Body = body
	x.r.Header.Set("Content-Type", jsonTypes[0])
}

// content sends what a Binary holds, if Accept would rather have its type than
// the resource; sent is false when it would not. It comes from anybody who may
// write: a browser must neither guess its type nor run it.
func (x *exchange) content(status int, v *interaction.Version, resource []byte) (sent bool, err error) {
	if !x.wanted.byAccept {
		return false, nil
	}
	doc, err := fhir.ParseStored(resource)
	if err != nil {
		return false, fault.Wrap(fault.Internal, "fhirapi.content", err)
	}
	defer doc.Release()
	typ := doc.Root().Get("contentType").Text()
	switch as := wants(x.r.Header.Values("Accept"), typ); {
	case as.over(x.wanted):
		return true, x.sendContent(status, v, doc.Root(), typ)
	case x.form == asContent:
		return false, &fault.Error{Kind: fault.NotAcceptable, Op: "fhirapi.content", Subject: "Accept", Detail: "the content is " + typ}
	}
	return false, nil
}

func (x *exchange) sendContent(status int, v *interaction.Version, binary fhir.Node, typ string) error {
	text := binary.Get("data").Raw()
	if len(text) > 1 {
		text = text[1 : len(text)-1]
	}
	if bytes.ContainsAny(text, " \\") { // white space, or escapes
		text = bytes.Join(bytes.Fields([]byte(binary.Get("data").Text())), nil)
	}
	size, ok := base64Size(text)
	if !ok {
		return &fault.Error{Kind: fault.NotAcceptable, Op: "fhirapi.content", Detail: "the content is not base64", Hint: "ask for application/fhir+json"}
	}
	x.versionHeaders(v)
	h := x.w.Header()
	h.Set("Content-Type", typ)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	if of := binary.Get("securityContext").Get("reference").Text(); printable(of) {
		h.Set(securityContext, of)
	}
	return x.sendFrom(status, size, base64.NewDecoder(base64.StdEncoding, bytes.NewReader(text)))
}

// base64Size is how many bytes a base64 text of RFC 4648 without white space
// holds; ok is false when it is none.
func base64Size(text []byte) (size int, ok bool) {
	data := bytes.TrimRight(text, "=")
	padding := len(text) - len(data)
	if len(text)%4 != 0 || padding > 2 {
		return 0, false
	}
	for _, c := range data {
		if !base64Digits[c] {
			return 0, false
		}
	}
	return len(text)/4*3 - padding, true
}

// base64Digits are the bytes that base64 is written with, but for its padding.
var base64Digits = func() (digits [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		digits[c] = true
	}
	return digits
}()

// printable reports whether text can stand in a header, and is there.
func printable(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// wanted is how much a client wants a form: its weight, and the place of the
// media range that says so.
type wanted struct {
	byAccept bool // and not by _format
	weight   float64
	place    int
}

// over reports whether a client would rather have this form than another: of
// equal ones the first.
func (w wanted) over(other wanted) bool {
	return w.weight > other.weight || w.weight == other.weight && w.weight > 0 && w.place < other.place
}

// wants is how much media ranges want a type (RFC 9110 section 12.5.1).
func wants(accept []string, typ string) (best wanted) {
	media, _ := mediaType(typ)
	if !printable(typ) {
		return best
	}
	group, _, _ := strings.Cut(media, "/")
	place := 0
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		asked, params := mediaType(part)
		this := wanted{true, weight(params["q"]), place}
		if (asked == media || asked == group+"/*") && this.over(best) {
			best = this
		}
		place++
	}
	return best
}
