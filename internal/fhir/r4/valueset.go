package r4

import (
	"slices"
	"strings"
)

// ValueSet is the expansion of a value set that a required binding names, as far
// as its codes are HL7's own.
type ValueSet struct {
	URL     string // without version
	Systems []SystemCodes
	// Open names the systems that belong to the set and are not listed here,
	// because they are a grammar or belong to others: urn:ietf:bcp:13 (MIME
	// types), urn:ietf:bcp:47, urn:iso:std:iso:4217, http://unitsofmeasure.org.
	Open []string
}

// SystemCodes are a set's codes from one code system, sorted.
type SystemCodes struct {
	System string
	Codes  []string
}

// ValueSetByURL finds a value set by canonical URL; a |version is ignored. Sets
// of others (LOINC answer lists) are not held.
func ValueSetByURL(url string) (*ValueSet, bool) {
	url, _, _ = strings.Cut(url, "|")
	v, ok := valueSets()[url]
	return v, ok
}

// HasCode reports whether a plain code is in the set, or might be because the
// set is open.
func (v *ValueSet) HasCode(code string) bool {
	if len(v.Open) > 0 {
		return true
	}
	for i := range v.Systems {
		if v.Systems[i].has(code) {
			return true
		}
	}
	return false
}

// Has reports whether the coding is in the set, or might be because its system
// is open.
func (v *ValueSet) Has(system, code string) bool {
	if slices.Contains(v.Open, system) {
		return true
	}
	for i := range v.Systems {
		if v.Systems[i].System == system && v.Systems[i].has(code) {
			return true
		}
	}
	return false
}

func (s *SystemCodes) has(code string) bool {
	_, ok := slices.BinarySearch(s.Codes, code)
	return ok
}
