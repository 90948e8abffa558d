package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// valueSet is the part of ValueSet that the tables need
// (https://hl7.org/fhir/R4/valueset.html).
type valueSet struct {
	URL     string
	Compose struct{ Include, Exclude []*inclusion }
}

type inclusion struct {
	System   string
	Concept  []concept
	Filter   []struct{ Property string }
	ValueSet []string
}

// codeSystem is the part of CodeSystem that the tables need
// (https://hl7.org/fhir/R4/codesystem.html).
type codeSystem struct {
	URL     string
	Content string
	Concept []concept
}

type concept struct {
	Code    string
	Concept []concept
}

// ownSystems are where HL7's own code systems live; codes of other systems stay
// with their owners and are not put into the tables.
var ownSystems = []string{"http://hl7.org/fhir/", "http://terminology.hl7.org/"}

// listedSystems are systems of others of which R4's own definition enumerates a
// few codes that a required binding cannot be checked without: the seven units
// of time of Timing.repeat (UCUM).
var listedSystems = []string{"http://unitsofmeasure.org"}

// maxValueSetDepth bounds value sets that include value sets.
const maxValueSetDepth = 8

// buildValueSets expands the value sets that required bindings name.
func buildValueSets(defs *definitions, structures []*r4.Structure) ([]r4.ValueSet, error) {
	need := map[string]bool{}
	for _, s := range structures {
		for _, e := range s.Elements {
			if e.Binding.Strength == r4.BindRequired {
				url, _, _ := strings.Cut(e.Binding.ValueSet, "|")
				need[url] = true
			}
		}
	}
	var all []r4.ValueSet
	for _, url := range slices.Sorted(maps.Keys(need)) {
		if _, held := defs.valueSets[url]; !held {
			continue // not in HL7's package: LOINC's answer list LL379-9
		}
		x := &expansion{defs: defs, codes: map[string]map[string]bool{}, open: map[string]bool{}}
		if err := x.add(url, 0); err != nil {
			return nil, fmt.Errorf("%s: %w", url, err)
		}
		all = append(all, x.valueSet(url))
	}
	return all, nil
}

// expansion gathers the codes of one value set.
type expansion struct {
	defs  *definitions
	codes map[string]map[string]bool // system → codes
	open  map[string]bool            // systems that are not listed
}

func (x *expansion) add(url string, depth int) error {
	url, _, _ = strings.Cut(url, "|")
	v, ok := x.defs.valueSets[url]
	if !ok || depth > maxValueSetDepth {
		return fmt.Errorf("cannot include %s", url)
	}
	if len(v.Compose.Exclude) > 0 {
		return fmt.Errorf("%s excludes codes, which is not provided for", url)
	}
	for _, i := range v.Compose.Include {
		if err := x.include(i, depth); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
	}
	return nil
}

func (x *expansion) include(i *inclusion, depth int) error {
	// Filters and intersections do not occur in what required bindings need.
	if len(i.Filter) > 0 || len(i.ValueSet) > 1 || (len(i.ValueSet) == 1) == (i.System != "") {
		return fmt.Errorf("an inclusion of %s %v is not provided for", i.System, i.ValueSet)
	}
	if len(i.ValueSet) == 1 {
		return x.add(i.ValueSet[0], depth+1)
	}
	own := slices.ContainsFunc(ownSystems, func(prefix string) bool { return strings.HasPrefix(i.System, prefix) })
	system, held := x.defs.codeSystems[i.System]
	switch {
	case len(i.Concept) > 0 && (own || slices.Contains(listedSystems, i.System)):
		x.concepts(i.System, i.Concept)
	case own && held && system.Content == "complete" && len(i.Concept) == 0:
		x.concepts(i.System, system.Concept)
	case own:
		return fmt.Errorf("the codes of %s are not in the package", i.System)
	default:
		x.open[i.System] = true
	}
	return nil
}

func (x *expansion) concepts(system string, list []concept) {
	if x.codes[system] == nil {
		x.codes[system] = map[string]bool{}
	}
	for _, c := range list {
		x.codes[system][c.Code] = true
		x.concepts(system, c.Concept)
	}
}

func (x *expansion) valueSet(url string) r4.ValueSet {
	v := r4.ValueSet{URL: url, Open: slices.Sorted(maps.Keys(x.open))}
	for _, system := range slices.Sorted(maps.Keys(x.codes)) {
		v.Systems = append(v.Systems, r4.SystemCodes{System: system, Codes: slices.Sorted(maps.Keys(x.codes[system]))})
	}
	return v
}
