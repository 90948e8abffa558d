package searchparam

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// path is one way from a node to values: members to walk, and the type of what
// stands at the end. An expression compiles to one path per alternative and per
// type of a choice.
type path struct {
	steps []step
	typ   string // as r4.StructureOf names it
	as    element
	// bound is the value set that a code at the end must be of, "" without.
	bound string
	// family: a HumanName's family stands at the end, not any string.
	family bool
	// fromRoot: the path begins at the resource, whatever node it is asked of
	// (%resource).
	fromRoot bool
}

// step goes to a member, or when name is 0 stays, and keeps what passes.
type step struct {
	name fhir.Name
	keep filter
}

// filter keeps a node; nil keeps all. place counts the nodes that the member
// gave, from 0.
type filter func(n fhir.Node, place int) bool

// walk calls yield for every node at the end of the path.
func (p *path) walk(n fhir.Node, yield func(fhir.Node)) { walk(n, p.steps, yield) }

func walk(n fhir.Node, steps []step, yield func(fhir.Node)) {
	if len(steps) == 0 {
		yield(n)
		return
	}
	s := steps[0]
	if s.name == 0 {
		if s.keep(n, 0) {
			walk(n, steps[1:], yield)
		}
		return
	}
	place := 0
	for item := range n.GetName(s.name).Items() {
		if item.Kind() == fhir.Null {
			continue
		}
		if s.keep == nil || s.keep(item, place) {
			walk(item, steps[1:], yield)
		}
		place++
	}
}

// compilePaths compiles the part of FHIRPath that search parameters are written
// in:
//
//	union     = path { "|" path }
//	path      = start { "." call }
//	start     = type | member | "%resource"
//	call      = member [ "[" n "]" ] | "ofType(" type ")" | "as(" type ")"
//	          | "where(" member "=" string ")" | "where(resolve() is" type ")"
//	          | "extension(" url ")" | "where(hasExtension(" url "))"
//
// of is the type of the node that the expression is asked of. Anything else is
// an error; the expression then needs all of FHIRPath.
func compilePaths(of, expression string) ([]path, error) {
	var all []path
	for _, alternative := range splitTop(expression, '|') {
		paths, err := compilePath(of, strings.TrimSpace(alternative))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expression, err)
		}
		all = append(all, paths...)
	}
	return all, nil
}

// splitTop splits at separators outside parentheses and quotes.
func splitTop(s string, sep byte) []string {
	var parts []string
	depth, start, quoted := 0, 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == sep && depth == 0:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

// draft is a path in the making. choice, when set, is a choice element whose
// type is not yet known.
type draft struct {
	path
	choice *r4.ElementInfo
	// narrowed: a resource stands at the end, and typ is the type that it must be of
	// ("Bundle.entry.resource.as(Composition)").
	narrowed bool
}

func compilePath(of, text string) ([]path, error) {
	parts := splitTop(text, '.')
	drafts, err := begin(of, strings.TrimSpace(parts[0]))
	for _, part := range parts[1:] {
		if err != nil {
			break
		}
		drafts, err = next(drafts, strings.TrimSpace(part))
	}
	if err != nil {
		return nil, err
	}
	var paths []path
	for _, d := range settle(drafts) {
		switch d.as = elementOf(d.typ); {
		case d.family:
			d.as = elementFamily
		case d.narrowed:
			d.as = elementResource
		}
		paths = append(paths, d.path)
	}
	return paths, nil
}

func begin(of, first string) ([]draft, error) {
	here := draft{path: path{typ: of}}
	switch {
	case first == "%resource":
		here.fromRoot = true
		return []draft{here}, nil
	case r4.IsA(of, first) || first == of:
		return []draft{here}, nil
	case first == "" || first[0] >= 'A' && first[0] <= 'Z':
		return nil, fmt.Errorf("%s is not %q", of, first)
	}
	return next([]draft{here}, first)
}

// next compiles one call behind the dot.
func next(drafts []draft, call string) ([]draft, error) {
	name, arg, isCall := strings.Cut(call, "(")
	if !isCall {
		return member(settle(drafts), call)
	}
	arg, ok := strings.CutSuffix(arg, ")")
	if !ok {
		return nil, fmt.Errorf("%q is not a call", call)
	}
	arg = strings.TrimSpace(arg)
	switch name {
	case "ofType", "as":
		return ofType(drafts, arg), nil
	case "where":
		return where(settle(drafts), arg)
	case "extension":
		extensions, err := member(settle(drafts), "extension")
		if err != nil {
			return nil, err
		}
		return where(extensions, "url = "+arg)
	}
	return nil, fmt.Errorf("the function %s() is not known here", name)
}

// member goes to a member, with or without a place: "entry[0]".
func member(drafts []draft, name string) ([]draft, error) {
	name, place, placed := strings.Cut(name, "[")
	var all []draft
	for _, d := range drafts {
		e, ok := r4.Element(d.typ, name)
		if !ok {
			return nil, fmt.Errorf("%s has no member %q", d.typ, name)
		}
		if e.IsChoice() {
			d.choice = e
			all = append(all, d)
			continue
		}
		s := step{name: fhir.Intern(name)}
		if placed {
			n, err := strconv.Atoi(strings.TrimSuffix(place, "]"))
			if err != nil {
				return nil, fmt.Errorf("%q is not a place", place)
			}
			s.keep = func(_ fhir.Node, at int) bool { return at == n }
		}
		family := d.typ == "HumanName" && name == "family"
		d = d.to(s, e.Type)
		d.family = family
		if e.Type == "code" && e.Binding.Strength == r4.BindRequired {
			d.bound = e.Binding.ValueSet
		}
		all = append(all, d)
	}
	return all, nil
}

func (d draft) to(s step, typ string) draft {
	d.steps = append(d.steps[:len(d.steps):len(d.steps)], s)
	d.typ, d.bound, d.choice, d.family, d.narrowed = typ, "", nil, false, false
	return d
}

// settle opens choices whose type nothing names into one draft per type.
func settle(drafts []draft) []draft {
	var all []draft
	for _, d := range drafts {
		if d.choice == nil {
			all = append(all, d)
			continue
		}
		for _, t := range d.choice.Types {
			all = append(all, d.choose(t.Name))
		}
	}
	return all
}

// choose takes the type of a choice.
func (d draft) choose(typ string) draft {
	name := d.choice.Choice + strings.ToUpper(typ[:1]) + typ[1:]
	return d.to(step{name: fhir.Intern(name)}, typ)
}

// ofType keeps what is of a type. What can never be of it is dropped.
func ofType(drafts []draft, typ string) []draft {
	typ = strings.TrimPrefix(typ, "FHIR.") // the model that names are of anyway
	var all []draft
	for _, d := range drafts {
		if d.choice == nil {
			switch {
			case r4.IsA(d.typ, typ):
				all = append(all, d)
			case isResource(typ) && r4.IsA(typ, d.typ):
				d = d.to(step{keep: func(n fhir.Node, _ int) bool { return n.ResourceType() == typ }}, typ)
				d.narrowed = true
				all = append(all, d)
			}
			continue
		}
		for _, t := range d.choice.Types {
			if t.Name == typ {
				all = append(all, d.choose(typ))
			}
		}
	}
	return all
}

func isResource(typ string) bool {
	_, ok := r4.TypeByName(typ)
	return ok
}

// where keeps what a condition keeps.
func where(drafts []draft, condition string) ([]draft, error) {
	keep, err := compileFilter(condition)
	if err != nil {
		return nil, err
	}
	var all []draft
	for _, d := range drafts {
		all = append(all, d.to(step{keep: keep}, d.typ))
	}
	return all, nil
}

func compileFilter(condition string) (filter, error) {
	if typ, ok := strings.CutPrefix(condition, "resolve() is "); ok {
		return refersTo(strings.TrimPrefix(strings.TrimSpace(typ), "FHIR.")), nil
	}
	if arg, ok := strings.CutPrefix(condition, "hasExtension("); ok {
		url, err := literal(strings.TrimSuffix(arg, ")"))
		return hasExtension(url), err
	}
	name, value, ok := strings.Cut(condition, "=")
	if name = strings.TrimSpace(name); !ok || !isName(name) {
		return nil, fmt.Errorf("the condition %q is not known here", condition)
	}
	text, err := literal(value)
	if err != nil {
		return nil, err
	}
	at := fhir.Intern(name)
	return func(n fhir.Node, _ int) bool { return n.GetName(at).Is(text) }, nil
}

func isName(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return s != ""
}

// literal reads a FHIRPath string without escapes.
func literal(s string) (string, error) {
	s = strings.TrimSpace(s)
	if len(s) < 2 || s[0] != '\'' || s[len(s)-1] != '\'' || strings.ContainsAny(s[1:len(s)-1], `'\`) {
		return "", fmt.Errorf("%s is not a plain string", s)
	}
	return s[1 : len(s)-1], nil
}

// extensionValues are the ways from an extension to its value, whatever type it is of.
var extensionValues = sync.OnceValues(func() ([]path, error) { return compilePath("Extension", "value") })

// valuePaths are compilePaths that go on to the value where they end at an
// extension: it is what "Patient.extension('http://acme.org/eyes')" is searched by.
func valuePaths(of, expression string) ([]path, error) {
	paths, err := compilePaths(of, expression)
	if err != nil {
		return nil, err
	}
	values, err := extensionValues()
	var all []path
	for _, p := range paths {
		if p.typ != "Extension" {
			all = append(all, p)
			continue
		}
		for _, v := range values {
			v.steps, v.fromRoot = slices.Concat(p.steps, v.steps), p.fromRoot
			all = append(all, v)
		}
	}
	return all, err
}

var (
	nameExtension = fhir.Intern("extension")
	nameURL       = fhir.Intern("url")
)

func hasExtension(url string) filter {
	return func(n fhir.Node, _ int) bool {
		for e := n.GetName(nameExtension).FirstItem(); e.Exists(); e = e.NextItem() {
			if e.GetName(nameURL).Is(url) {
				return true
			}
		}
		return false
	}
}
