package terminology

import (
	"encoding/json"
	"regexp"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
)

// valueSet is what is read of a ValueSet (https://hl7.org/fhir/R4/valueset.html).
type valueSet struct {
	URL     string
	Compose *struct {
		Include []inclusion
		Exclude []inclusion
	}
	Expansion *struct{ Contains []contained }
}

type inclusion struct {
	System   string
	Version  string
	Concept  []struct{ Code string }
	Filter   []filter
	ValueSet []string
}

type filter struct{ Property, Op, Value string }

type contained struct {
	System   string
	Code     string
	Abstract bool
	Contains []contained
}

// expand gives the codings of a value set by canonical or reference.
func (t *Terms) expand(canonical string, depth int) (*set, error) {
	if depth > MaxDepth {
		return nil, &fault.Error{Kind: fault.TooCostly, Op: "terminology.expand", Subject: canonical, Detail: "value sets include each other too deep"}
	}
	raw, err := t.find(typeValueSet, canonical)
	if err != nil {
		return nil, err
	}
	if raw == nil {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "terminology.expand", Subject: canonical, Detail: "no such value set",
			Hint: "store the ValueSet in the data store, or name one of R4's"}
	}
	var v valueSet
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, fault.Wrap(fault.Internal, "terminology.expand", err)
	}
	return t.content(&v, canonical, depth)
}

func (t *Terms) content(v *valueSet, canonical string, depth int) (*set, error) {
	all := newSet()
	switch {
	case v.Compose != nil:
		if err := t.unite(all, v.Compose.Include, depth); err != nil {
			return nil, err
		}
		out := newSet()
		if err := t.unite(out, v.Compose.Exclude, depth); err != nil {
			return nil, err
		}
		return all, all.subtract(out)
	case v.Expansion != nil:
		all.contains(v.Expansion.Contains)
		return all, all.bounded()
	}
	return nil, &fault.Error{Kind: fault.Invalid, Op: "terminology.content", Subject: canonical, Detail: "the value set has neither compose nor expansion"}
}

// contains adds what an expansion lists; abstract entries only group others
// (R4 valueset-definitions.html#ValueSet.expansion.contains.abstract).
func (s *set) contains(list []contained) {
	for _, c := range list {
		if c.Code != "" && !c.Abstract {
			s.codes[search.Coding{System: c.System, Code: c.Code}] = true
		}
		s.contains(c.Contains)
	}
}

func (t *Terms) unite(all *set, list []inclusion, depth int) error {
	for i := range list {
		one, err := t.include(&list[i], depth)
		if err != nil {
			return err
		}
		all.add(one)
		if err := all.bounded(); err != nil {
			return err
		}
	}
	return nil
}

// include is one compose.include: what its system part and each of its value
// sets have in common (R4 valueset.html#compositions).
func (t *Terms) include(i *inclusion, depth int) (*set, error) {
	var all *set
	if i.System != "" {
		var err error
		if all, err = t.ofSystem(i); err != nil {
			return nil, err
		}
	}
	for _, canonical := range i.ValueSet {
		one, err := t.expand(canonical, depth+1)
		if err != nil {
			return nil, err
		}
		if all != nil {
			one = both(all, one)
		}
		all = one
	}
	if all == nil {
		return newSet(), nil
	}
	return all, nil
}

// ofSystem is the system part: the codes listed, those that pass every filter,
// or all.
func (t *Terms) ofSystem(i *inclusion) (*set, error) {
	all := newSet()
	if len(i.Concept) > 0 {
		for _, c := range i.Concept {
			all.codes[search.Coding{System: i.System, Code: c.Code}] = true
		}
		return all, nil
	}
	canonical := i.System
	if i.Version != "" {
		canonical += "|" + i.Version
	}
	if len(i.Filter) == 0 {
		system, err := t.system(canonical)
		if err != nil {
			return nil, err
		}
		if system == nil || len(system.codes) > MaxCodings {
			all.systems[i.System] = true
			return all, nil
		}
		for _, code := range system.codes {
			all.codes[search.Coding{System: i.System, Code: code}] = true
		}
		return all, nil
	}
	system, err := t.needSystem(canonical)
	if err != nil {
		return nil, err
	}
	return all, all.filtered(system, i)
}

func (s *set) filtered(system *codeSystem, i *inclusion) error {
	passes := make([]func(string) bool, len(i.Filter))
	for n, f := range i.Filter {
		var err error
		if passes[n], err = system.filter(f); err != nil {
			return err
		}
	}
	for _, code := range system.codes {
		in := true
		for _, pass := range passes {
			in = in && pass(code)
		}
		if in {
			s.codes[search.Coding{System: i.System, Code: code}] = true
		}
	}
	return nil
}

// filter compiles one filter (R4 valueset-filter-operator).
func (s *codeSystem) filter(f filter) (func(code string) bool, error) {
	within := func(codes map[string]bool) func(string) bool { return func(code string) bool { return codes[code] } }
	switch f.Op {
	case "is-a":
		below := s.below(f.Value)
		below[f.Value] = true
		return within(below), nil
	case "descendent-of":
		return within(s.below(f.Value)), nil
	case "is-not-a":
		below := s.below(f.Value)
		return func(code string) bool { return code != f.Value && !below[code] }, nil
	case "generalizes":
		above := s.above(f.Value)
		above[f.Value] = true
		return within(above), nil
	case "=":
		return func(code string) bool { return s.has(code, f.Property, func(v string) bool { return v == f.Value }) }, nil
	case "in", "not-in":
		listed := map[string]bool{}
		for _, v := range strings.Split(f.Value, ",") {
			listed[strings.TrimSpace(v)] = true
		}
		return func(code string) bool {
			return s.has(code, f.Property, func(v string) bool { return listed[v] }) == (f.Op == "in")
		}, nil
	case "exists":
		return func(code string) bool {
			return s.has(code, f.Property, func(string) bool { return true }) == (f.Value == "true")
		}, nil
	case "regex":
		re, err := regexp.Compile(`^(?:` + f.Value + `)$`)
		if err != nil {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "terminology.filter", Subject: f.Value, Detail: "the value set's filter is no regular expression"}
		}
		return func(code string) bool { return s.has(code, f.Property, re.MatchString) }, nil
	}
	return nil, &fault.Error{Kind: fault.NotSupported, Op: "terminology.filter", Subject: f.Op, Detail: "no such filter operator in R4"}
}
