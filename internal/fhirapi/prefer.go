package fhirapi

import (
	"net/http"
	"strings"
)

// preference is the Prefer header (R4 http.html#ops; RFC 7240).
type preference struct {
	want    want
	lenient bool     // handling=lenient
	strict  bool     // handling=strict
	async   bool     // respond-async: applied where there is something to do later
	applied []string // for Preference-Applied
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
var preferences = map[string]func(*preference) bool{
	"return=minimal":          func(p *preference) bool { return p.returns(wantMinimal) },
	"return=representation":   func(p *preference) bool { return p.returns(wantResource) },
	"return=operationoutcome": func(p *preference) bool { return p.returns(wantOutcome) },
	"handling=lenient":        func(p *preference) bool { p.lenient = !p.strict; return p.lenient },
	"respond-async":           func(p *preference) bool { p.async = true; return false },
	"handling=strict":         func(p *preference) bool { p.strict = !p.lenient; return p.strict },
}

func (p *preference) returns(w want) bool {
	first := p.want == wantDefault
	if first {
		p.want = w
	}
	return first
}

func readPrefer(h http.Header) preference {
	var p preference
	for _, line := range h.Values("Prefer") {
		for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return r == ',' || r == ';' }) {
			part = strings.Join(strings.Fields(strings.ReplaceAll(part, `"`, "")), "")
			if apply, known := preferences[strings.ToLower(part)]; known && apply(&p) {
				p.applied = append(p.applied, part)
			}
		}
	}
	return p
}
