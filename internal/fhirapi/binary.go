package fhirapi

import (
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

// content sends what a Binary holds, if Accept takes its type. It comes from
// anybody who may write: a browser must neither guess its type nor run it.
func (x *exchange) content(status int, v *interaction.Version, resource []byte) error {
	doc, err := fhir.Parse(resource)
	if err != nil {
		return fault.Wrap(fault.Internal, "fhirapi.content", err)
	}
	defer doc.Release()
	typ := doc.Root().Get("contentType").Text()
	if !takes(x.r.Header.Values("Accept"), typ) {
		return &fault.Error{Kind: fault.NotAcceptable, Op: "fhirapi.content", Subject: "Accept", Detail: "the content is " + typ}
	}
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(doc.Root().Get("data").Text()), ""))
	if err != nil {
		return &fault.Error{Kind: fault.NotAcceptable, Op: "fhirapi.content", Detail: "the content is not base64", Hint: "ask for application/fhir+json"}
	}
	x.versionHeaders(v)
	h := x.w.Header()
	h.Set("Content-Type", typ)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "sandbox; default-src 'none'")
	if of := doc.Root().Get("securityContext").Get("reference").Text(); printable(of) {
		h.Set(securityContext, of)
	}
	return x.send(status, data)
}

// printable reports whether text can stand in a header, and is there.
func printable(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' })
}

// takes reports whether media ranges take a type (RFC 9110 section 12.5.1).
func takes(accept []string, typ string) bool {
	media, _ := mediaType(typ)
	if !printable(typ) {
		return false
	}
	group, _, _ := strings.Cut(media, "/")
	for part := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		wanted, params := mediaType(part)
		if (wanted == media || wanted == group+"/*") && weight(params["q"]) > 0 {
			return true
		}
	}
	return false
}
