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
	"github.com/tarn-fhir/tarn/internal/fhir/xml"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Media types.
const (
	contentType    = "application/fhir+json; charset=utf-8"
	xmlContentType = "application/fhir+xml; charset=utf-8"
	formType       = "application/x-www-form-urlencoded"
)

// jsonTypes are the ways to ask for and to declare FHIR's JSON (R4
// http.html#mime-type).
var jsonTypes = []string{"application/fhir+json", "application/json", "text/json", "application/json+fhir"}

// xmlTypes are those of FHIR's XML.
var xmlTypes = []string{"application/fhir+xml", "application/xml", "text/xml", "application/xml+fhir"}

// anyTypes are the media ranges that JSON is part of, and _format's short name.
var anyTypes = []string{"json", "*/*", "*", "application/*"}

// form is how the answer is written.
type form uint8

const (
	asJSON form = iota
	asXML
	asContent // of a Binary, in its own type
)

// fhirVersion is the one value of the MIME parameter fhirVersion that is offered
// (R4 http.html#version-parameter).
const fhirVersion = "4.0"

// maxInflated bounds a compressed body in bytes once inflated.
const maxInflated = 256 << 20

// negotiate settles the answer's form from _format, _pretty and Accept: JSON,
// XML, or of a Binary what it holds.
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
		return x.choose("_format", strings.ReplaceAll(format, " ", "+")) // a + that URL decoding made a blank
	}
	if accept := x.r.Header.Values("Accept"); len(accept) > 0 {
		return x.choose("Accept", strings.Join(accept, ","))
	}
	return nil
}

// choose takes the form that a list of media ranges (RFC 9110 section 12.5.1)
// prefers; of equal ones the first.
func (x *exchange) choose(subject, list string) error {
	if strings.TrimSpace(list) == "" {
		return nil
	}
	best, place := wanted{byAccept: subject == "Accept"}, 0
	for part := range strings.SplitSeq(list, ",") {
		media, params := mediaType(part)
		f, known := formOf(media)
		if q := weight(params["q"]); known && rightVersion(params) && q > best.weight {
			best.weight, best.place, x.form = q, place, f
		}
		place++
	}
	x.wanted = best
	switch {
	case best.weight > 0:
	case subject == "Accept" && x.readsBinary():
		x.form = asContent
	case subject == "Accept" && x.asksForLines(list):
	default:
		return &fault.Error{Kind: fault.NotAcceptable, Op: "fhirapi.negotiate", Subject: subject, Detail: "JSON and XML of FHIR 4.0 are offered",
			Hint: "ask for application/fhir+json or application/fhir+xml"}
	}
	if x.form == asXML {
		x.w.Header().Set("Content-Type", xmlContentType) // for WriteFault too
	}
	return nil
}

func formOf(media string) (form, bool) {
	switch {
	case slices.Contains(anyTypes, media) || slices.Contains(jsonTypes, media):
		return asJSON, true
	case media == "xml" || slices.Contains(xmlTypes, media):
		return asXML, true
	}
	return 0, false
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

// weight reads that of a media range; without one, or a malformed one, it is 1.
func weight(q string) float64 {
	w, err := strconv.ParseFloat(q, 64)
	if err != nil || w < 0 || w > 1 {
		return 1
	}
	return w
}

// wantResource refuses bodies that are no FHIR JSON or XML.
func (x *exchange) wantResource() error { return x.want(jsonTypes...) }

// want refuses bodies of other media types. Where FHIR's JSON is wanted, its XML
// is as good, and turned into JSON.
func (x *exchange) want(types ...string) error {
	media, params, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	isXML := slices.Contains(xmlTypes, media) && slices.Contains(types, jsonTypes[0])
	if err != nil || !isXML && !slices.Contains(types, media) || !rightVersion(params) {
		return &fault.Error{Kind: fault.MediaType, Op: "fhirapi.want", Hint: "send " + types[0]}
	}
	if set := params["charset"]; set != "" && !strings.EqualFold(set, "utf-8") && !strings.EqualFold(set, "us-ascii") {
		return &fault.Error{Kind: fault.MediaType, Op: "fhirapi.want", Hint: "send it in UTF-8"} // R4 http.html#mime-type
	}
	if !isXML {
		return nil
	}
	text, err := xml.ToJSON(x.Body, fhir.Limits{})
	if err != nil {
		return err
	}
	x.sentXML, x.Body = x.Body, text
	return nil
}

// inXML gives issues their places in the XML that was sent.
func (x *exchange) inXML(err error) error {
	if err == nil || x.sentXML == nil || len(fault.From(err).Place) == 0 {
		return err
	}
	f := *fault.From(err)
	f.Place = slices.Clone(f.Place)
	xml.Locate(x.sentXML, f.Place)
	return &f
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

// body sends a resource in the form that was negotiated.
func (x *exchange) body(status int, resource []byte) error {
	if x.form == asXML {
		text, err := asXMLText(resource, x.pretty)
		if err == nil {
			x.w.Header().Set("Content-Type", xmlContentType)
			return x.send(status, text)
		}
		if x.r.Method == http.MethodGet || x.r.Method == http.MethodHead {
			return &fault.Error{Kind: fault.NotAcceptable, Op: "fhirapi.body", Detail: "what is stored cannot be said in XML", Hint: "ask for application/fhir+json", Cause: err}
		}
		// It was done, and must be told in one way or another.
	}
	if x.pretty {
		resource = fhir.AppendPretty(nil, resource)
	}
	x.w.Header()["Content-Type"] = isJSON
	return x.send(status, resource)
}

func asXMLText(resource []byte, pretty bool) ([]byte, error) {
	doc, err := fhir.ParseStored(resource)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	if pretty {
		return xml.AppendPretty(nil, doc.Root())
	}
	return xml.AppendXML(nil, doc.Root())
}

// minCompressed is the size in bytes from which an answer is worth compressing.
// What is smaller is on its way as fast as it is, with the ten segments that a
// TCP connection begins with (RFC 6928), and to compress it costs more than to
// read and render it.
const minCompressed = 14_000

// packer compresses one answer at a time.
type packer struct {
	z   *gzip.Writer
	out bytes.Buffer
}

var packers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // a valid level
	return &packer{z: z}
}}

// packs reports whether an answer of that size goes out compressed.
func (x *exchange) packs(size int) bool {
	return size >= minCompressed && x.r.Method != http.MethodHead && takesGzip(x.r.Header.Get("Accept-Encoding"))
}

// send sends a body in one piece, so that its length stands before it.
func (x *exchange) send(status int, body []byte) error {
	if !x.packs(len(body)) {
		return x.sendPlain(status, len(body), bytes.NewReader(body))
	}
	p := packers.Get().(*packer)
	defer packers.Put(p)
	p.out.Reset()
	p.z.Reset(&p.out)
	if _, err := p.z.Write(body); err != nil {
		return fault.Wrap(fault.Internal, "fhirapi.send", err)
	}
	if err := p.z.Close(); err != nil {
		return fault.Wrap(fault.Internal, "fhirapi.send", err)
	}
	x.w.Header().Set("Content-Encoding", "gzip")
	err := x.sendPlain(status, p.out.Len(), bytes.NewReader(p.out.Bytes()))
	if p.out.Cap() > maxRoom {
		p.out = bytes.Buffer{}
	}
	return err
}

// sendFrom sends a body of this many bytes as it is read.
func (x *exchange) sendFrom(status, size int, body io.Reader) error {
	if !x.packs(size) {
		return x.sendPlain(status, size, body)
	}
	h := x.w.Header()
	h["Vary"] = varies
	h.Set("Content-Encoding", "gzip")
	x.w.WriteHeader(status)
	p := packers.Get().(*packer)
	defer packers.Put(p)
	p.z.Reset(x.w)
	if _, err := io.Copy(p.z, body); err != nil {
		return sent(err)
	}
	return sent(p.z.Close())
}

func (x *exchange) sendPlain(status, size int, body io.Reader) error {
	h := x.w.Header()
	h["Vary"] = varies
	h.Set("Content-Length", strconv.Itoa(size))
	x.w.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	_, err := io.Copy(x.w, body)
	return sent(err)
}

// takesGzip reads Accept-Encoding (RFC 9110 section 12.5.3).
func takesGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		if coding, params := mediaType(part); coding == "gzip" && weight(params["q"]) > 0 {
			return true
		}
	}
	return false
}

// sent is what a broken connection while sending is.
func sent(err error) error { return fault.Wrap(fault.Canceled, "fhirapi.send", err) }
