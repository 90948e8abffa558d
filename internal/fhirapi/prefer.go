package fhirapi

import (
	"net/http"
	"strings"
)

// preference is the Prefer header (R4 http.html#ops; RFC 7240).
type preference struct {
	want    want
	lenient bool // handling=lenient
	strict  bool // handling=strict
	async   bool // respond-async

	returns, handling string // as the client wrote them, for Preference-Applied
}

// want is what a write gives back.
type want uint8

const (
	wantDefault  want = iota // the resource; of bundles, none
	wantResource             // return=representation
	wantMinimal              // return=minimal
	wantOutcome              // return=OperationOutcome
)

// preferences are those that are understood; of contradicting ones the first
// counts (RFC 7240 section 2). Others are passed over, as the RFC has it.
var preferences = map[string]func(p *preference, text string){
	"return=minimal":          func(p *preference, text string) { p.give(wantMinimal, text) },
	"return=representation":   func(p *preference, text string) { p.give(wantResource, text) },
	"return=operationoutcome": func(p *preference, text string) { p.give(wantOutcome, text) },
	"handling=lenient":        func(p *preference, text string) { p.handle(&p.lenient, text) },
	"handling=strict":         func(p *preference, text string) { p.handle(&p.strict, text) },
	"respond-async":           func(p *preference, _ string) { p.async = true },
}

func (p *preference) give(w want, text string) {
	if p.want == wantDefault {
		p.want, p.returns = w, text
	}
}

func (p *preference) handle(how *bool, text string) {
	if p.handling == "" {
		*how, p.handling = true, text
	}
}

// applied tells the client of a preference that its answer follows (RFC 7240
// section 3); empty is none.
func (x *exchange) applied(text string) {
	if text == "" {
		return
	}
	h := x.w.Header()
	if before := h.Get("Preference-Applied"); before != "" {
		text = before + ", " + text
	}
	h.Set("Preference-Applied", text)
}

func readPrefer(h http.Header) preference {
	var p preference
	for _, line := range h.Values("Prefer") {
		for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ';' }) {
			part = strings.Join(strings.Fields(strings.ReplaceAll(part, `"`, "")), "")
			if apply, known := preferences[strings.ToLower(part)]; known {
				apply(&p, part)
			}
		}
	}
	return p
}
