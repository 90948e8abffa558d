package fhirapi

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Media types.
const (
	contentType = "application/fhir+json; charset=utf-8"
	formType    = "application/x-www-form-urlencoded"
)

// jsonTypes are the ways to ask for and to declare FHIR's JSON (R4
// http.html#mime-type).
var jsonTypes = []string{"application/fhir+json", "application/json", "text/json", "application/json+fhir"}

// maxInflated bounds a compressed body in bytes once inflated.
const maxInflated = 256 << 20

// negotiate settles the answer's form from _format, _pretty and Accept; only
// JSON is offered.
func (x *exchange) negotiate() error {
	format, pretty := "", ""
	if strings.Contains(x.RawQuery, "_format") || strings.Contains(x.RawQuery, "_pretty") {
		pairs, err := search.ParsePairs(x.RawQuery)
		if err != nil {
			return err
		}
		for _, p := range pairs {
			switch p.Name {
			case "_format":
				format = p.Value
			case "_pretty":
				pretty = p.Value
			}
		}
	}
	x.pretty = pretty == "true"
	if format != "" {
		return acceptable("_format", format)
	}
	accept := x.r.Header.Get("Accept")
	if accept == "" {
		return nil
	}
	return acceptable("Accept", accept)
}

func acceptable(subject, list string) error {
	for part := range strings.SplitSeq(list, ",") {
		media, _, err := mime.ParseMediaType(strings.ReplaceAll(part, " ", "+"))
		if err != nil {
			media = strings.TrimSpace(part)
		}
		if media == "json" || media == "*/*" || media == "application/*" || slices.Contains(jsonTypes, media) {
			return nil
		}
	}
	return &fault.Error{Kind: fault.NotAcceptable, Op: "fhirapi.negotiate", Subject: subject, Detail: "only JSON is offered", Hint: "ask for application/fhir+json"}
}

func (x *exchange) wantJSON() error { return x.want(jsonTypes...) }

// want refuses bodies of other media types.
func (x *exchange) want(types ...string) error {
	media, _, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(types, media) {
		return &fault.Error{Kind: fault.MediaType, Op: "fhirapi.want", Hint: "send " + types[0]}
	}
	return nil
}

// inflate undoes a body's gzip.
func (x *exchange) inflate() error {
	switch x.r.Header.Get("Content-Encoding") {
	case "", "identity":
		return nil
	case "gzip":
	default:
		return &fault.Error{Kind: fault.MediaType, Op: "fhirapi.inflate", Subject: "Content-Encoding", Detail: "only gzip is understood"}
	}
	z, err := gzip.NewReader(bytes.NewReader(x.Body))
	if err == nil {
		x.Body, err = io.ReadAll(io.LimitReader(z, maxInflated+1))
	}
	if err != nil {
		return &fault.Error{Kind: fault.Syntax, Op: "fhirapi.inflate", Detail: "the body is not gzip", Cause: err}
	}
	if len(x.Body) > maxInflated {
		return fault.New(fault.TooLarge, "fhirapi.inflate", "the body is larger than %d bytes once inflated", maxInflated)
	}
	return nil
}

// body sends FHIR JSON.
func (x *exchange) body(status int, resource []byte) error {
	if x.pretty {
		resource = fhir.AppendPretty(nil, resource)
	}
	x.w.Header().Set("Content-Type", contentType)
	return x.send(status, resource)
}

// minCompressed is the size from which an answer is worth compressing.
const minCompressed = 1024

var zippers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // a valid level
	return z
}}

func (x *exchange) send(status int, body []byte) error {
	h := x.w.Header()
	h.Add("Vary", "Accept-Encoding")
	if len(body) < minCompressed || !strings.Contains(x.r.Header.Get("Accept-Encoding"), "gzip") {
		x.w.WriteHeader(status)
		_, err := x.w.Write(body)
		return sent(err)
	}
	h.Set("Content-Encoding", "gzip")
	x.w.WriteHeader(status)
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(x.w)
	if _, err := z.Write(body); err != nil {
		return sent(err)
	}
	return sent(z.Close())
}

// sent is what a broken connection while sending is.
func sent(err error) error { return fault.Wrap(fault.Canceled, "fhirapi.send", err) }

// preference is the Prefer header (R4 http.html#ops; RFC 7240).
type preference struct {
	want    want
	lenient bool
}

type want uint8

const (
	wantResource want = iota
	wantMinimal
	wantOutcome
)

func readPrefer(h http.Header) preference {
	var p preference
	for _, line := range h.Values("Prefer") {
		for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ';' }) {
			switch strings.ToLower(strings.ReplaceAll(part, " ", "")) {
			case "return=minimal":
				p.want = wantMinimal
			case "return=representation":
				p.want = wantResource
			case "return=operationoutcome":
				p.want = wantOutcome
			case "handling=lenient":
				p.lenient = true
			}
		}
	}
	return p
}
