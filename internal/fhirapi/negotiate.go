package fhirapi

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
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

// anyTypes are the media ranges that JSON is part of, and _format's short name.
var anyTypes = []string{"json", "*/*", "*", "application/*"}

// fhirVersion is the one value of the MIME parameter fhirVersion that is offered
// (R4 http.html#version-parameter).
const fhirVersion = "4.0"

// maxInflated bounds a compressed body in bytes once inflated.
const maxInflated = 256 << 20

// negotiate settles the answer's form from _format, _pretty and Accept; only
// JSON is offered.
func (x *exchange) negotiate() error {
	format := ""
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
				x.pretty = p.Value == "true"
			}
		}
	}
	if format != "" {
		return acceptable("_format", strings.ReplaceAll(format, " ", "+")) // a + that URL decoding made a blank
	}
	if accept := x.r.Header.Values("Accept"); len(accept) > 0 {
		return acceptable("Accept", strings.Join(accept, ","))
	}
	return nil
}

// acceptable reports whether a list of media ranges (RFC 9110 section 12.5.1)
// takes JSON.
func acceptable(subject, list string) error {
	if strings.TrimSpace(list) == "" {
		return nil
	}
	for part := range strings.SplitSeq(list, ",") {
		media, params := mediaType(part)
		if (slices.Contains(anyTypes, media) || slices.Contains(jsonTypes, media)) && rightVersion(params) && !refused(params["q"]) {
			return nil
		}
	}
	return &fault.Error{Kind: fault.NotAcceptable, Op: "fhirapi.negotiate", Subject: subject, Detail: "only JSON of FHIR 4.0 is offered",
		Hint: "ask for application/fhir+json"}
}

// mediaType reads one media type, leniently: without parameters when they are
// malformed.
func mediaType(text string) (string, map[string]string) {
	media, params, err := mime.ParseMediaType(text)
	if err == nil {
		return media, params
	}
	media, _, _ = strings.Cut(text, ";")
	return strings.ToLower(strings.TrimSpace(media)), nil
}

func rightVersion(params map[string]string) bool {
	v := params["fhirversion"]
	return v == "" || v == fhirVersion || strings.HasPrefix(v, fhirVersion+".")
}

// refused reads the weight of a media range: zero is "not acceptable".
func refused(q string) bool {
	weight, err := strconv.ParseFloat(q, 64)
	return err == nil && weight == 0
}

func (x *exchange) wantJSON() error { return x.want(jsonTypes...) }

// want refuses bodies of other media types.
func (x *exchange) want(types ...string) error {
	media, params, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	if err != nil || !slices.Contains(types, media) || !rightVersion(params) {
		return &fault.Error{Kind: fault.MediaType, Op: "fhirapi.want", Hint: "send " + types[0]}
	}
	return nil
}

// inflate undoes a body's gzip.
func (x *exchange) inflate() error {
	switch strings.ToLower(x.r.Header.Get("Content-Encoding")) {
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

// minCompressed is the size in bytes from which an answer is worth compressing.
const minCompressed = 1024

var zippers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // a valid level
	return z
}}

func (x *exchange) send(status int, body []byte) error {
	h := x.w.Header()
	h.Add("Vary", "Accept, Accept-Encoding")
	head := x.r.Method == http.MethodHead
	if len(body) < minCompressed || head || !takesGzip(x.r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Length", strconv.Itoa(len(body)))
		x.w.WriteHeader(status)
		if head {
			return nil
		}
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

// takesGzip reads Accept-Encoding (RFC 9110 section 12.5.3).
func takesGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		if coding, params := mediaType(part); coding == "gzip" && !refused(params["q"]) {
			return true
		}
	}
	return false
}

// sent is what a broken connection while sending is.
func sent(err error) error { return fault.Wrap(fault.Canceled, "fhirapi.send", err) }
