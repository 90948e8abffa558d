package fhirpath

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// readVariable reads %name: those of R4 (fhirpath.html#vars), then Env.Vars.
func readVariable(n variable) fn {
	pos, name := n.at(), n.name
	if text, ok := constants[name]; ok {
		return constant(String(text))
	}
	for prefix, base := range urlVariables {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" {
			return constant(String(base + rest))
		}
	}
	switch name {
	case "context":
		return func(e *eval, _ *frame, out []Value) ([]Value, error) { return append(out, e.base.this...), nil }
	case "resource":
		return func(e *eval, _ *frame, out []Value) ([]Value, error) { return appendResource(out, e.resource()), nil }
	case "rootResource":
		return func(e *eval, _ *frame, out []Value) ([]Value, error) {
			return appendResource(out, e.rootResource()), nil
		}
	}
	return func(e *eval, _ *frame, out []Value) ([]Value, error) {
		values, ok := e.env.Vars[name]
		if !ok {
			return out, e.fail(pos, "the variable %%%s is unknown", quoteName(name))
		}
		return appendKnown(out, values), nil
	}
}

var constants = map[string]string{
	"sct": "http://snomed.info/sct", "loinc": "http://loinc.org", "ucum": ucumSystem,
}

var urlVariables = map[string]string{
	"vs-":  "http://hl7.org/fhir/ValueSet/",
	"ext-": "http://hl7.org/fhir/StructureDefinition/",
}

func appendResource(out []Value, n fhir.Node) []Value {
	if !n.Exists() {
		return out
	}
	return append(out, Element(n, ""))
}

// appendKnown appends values that came from outside, without the zero ones.
func appendKnown(out, values []Value) []Value {
	for _, v := range values {
		if v.kind != kindNode || v.typ != nil && v.node.Exists() {
			out = append(out, v)
		}
	}
	return out
}

// fhirFunctions are those R4 adds (http://hl7.org/fhir/R4/fhirpath.html#functions);
// hasExtension, which a search parameter of R4 calls; and the boundaries and precision of FHIRPath's next version.
var fhirFunctions = map[string]function{
	"extension": eager(1, 1, extension),
	"hasExtension": eager(1, 1, func(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		found, err := extension(e, pos, in, args, nil)
		return append(out, Boolean(len(found) > 0)), err
	}),
	"hasValue": eager(0, 0, func(_ *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		return append(out, Boolean(len(in) == 1 && in[0].isPrimitive() && in[0].hasValue())), nil
	}),
	"getValue": eager(0, 0, func(_ *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		if len(in) == 1 && in[0].isPrimitive() && in[0].hasValue() {
			out = append(out, in[0].system())
		}
		return out, nil
	}),
	"resolve":        eager(0, 0, resolve),
	"memberOf":       eager(1, 1, memberOf),
	"conformsTo":     eager(1, 1, conformsTo),
	"subsumes":       eager(1, 1, subsumption(false)),
	"subsumedBy":     eager(1, 1, subsumption(true)),
	"checkModifiers": eager(0, maxArgs, checkModifiers),
	"htmlChecks": eager(0, 0, func(e *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		ok := true
		for i := range in {
			text, isText := in[i].Text()
			ok = ok && isText && narrativeAllowed(text)
			if err := e.cost(len(text) / charsPerItem); err != nil {
				return out, err
			}
		}
		return append(out, Boolean(ok)), nil
	}),
	"lowBoundary":  eager(0, 1, boundary(false)),
	"highBoundary": eager(0, 1, boundary(true)),
	"precision":    eager(0, 0, precisionOf),
}

// extension gives the extensions with a URL.
func extension(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
	url, ok, err := e.text(pos, args[0])
	if err != nil || !ok {
		return out, err
	}
	t := typeByName("Extension")
	for i := range in {
		v := &in[i]
		if v.kind != kindNode {
			continue
		}
		object := v.node
		if v.typ.primitive != 0 {
			object = v.holder()
		}
		list, mark := e.list(arrayOnly(object.GetName(nameExtension)))
		for _, x := range list {
			if x.GetName(nameURL).Is(url) {
				out = append(out, Value{node: x, typ: t})
			}
		}
		e.drop(mark)
		if err := e.cost(len(list)); err != nil {
			return out, err
		}
	}
	return out, nil
}

// referenceText is the text by which a value refers to something.
func referenceText(v *Value) (string, bool) {
	if v.isComplex() {
		n := v.node.GetName(nameReference)
		return n.Text(), n.Kind() == fhir.String
	}
	return v.Text()
}

// resolve gives what references point to. What cannot be had is left out.
func resolve(e *eval, _ int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
	for i := range in {
		v := &in[i]
		text, ok := referenceText(v)
		if !ok {
			continue
		}
		if err := e.cost(resolveCost); err != nil {
			return out, err
		}
		if strings.HasPrefix(text, "#") {
			out = appendResource(out, e.contained(text[1:]))
		} else if e.env.Resolve != nil {
			if target, ok := e.env.Resolve(*v); ok {
				out = appendKnown(out, []Value{target})
			}
		}
	}
	return out, nil
}

// resolveCost is what fetching a target counts.
const resolveCost = 100

// contained finds a contained resource by id; no id is the container itself.
func (e *eval) contained(id string) fhir.Node {
	root := e.rootResource()
	if id == "" {
		return root
	}
	for r := range root.GetName(nameContained).Items() {
		if r.GetName(nameID).Is(id) {
			return r
		}
	}
	return fhir.Node{}
}

// resolvesTo compiles `resolve() is Type`, which asks for no more than the
// target's type: Env.ResolveType, or what the reference itself tells.
func (c *compiler) resolvesTo(n call, spec typeName, pos int) (fn, error) {
	in, err := c.input(n.of)
	if err != nil {
		return nil, err
	}
	m, err := c.matcher(spec, pos)
	if err != nil {
		return nil, err
	}
	return func(e *eval, f *frame, out []Value) ([]Value, error) {
		v, ok, err := e.one(pos, in, f)
		if err != nil || !ok {
			return out, err
		}
		target, ok := e.targetType(&v)
		if !ok {
			return out, nil
		}
		t := typeByName(target)
		return append(out, Boolean(t != nil && m.is(&Value{typ: t}))), nil
	}, nil
}

// targetType is the type of what a value refers to.
func (e *eval) targetType(v *Value) (string, bool) {
	text, ok := referenceText(v)
	if ok && strings.HasPrefix(text, "#") {
		n := e.contained(text[1:])
		return n.ResourceType(), n.Exists()
	}
	if e.env.ResolveType != nil && v.kind == kindNode {
		return e.env.ResolveType(v.node)
	}
	if r := fhir.ParseReference(text); ok && r.Type != "" {
		if _, known := r4.TypeByName(r.Type); known {
			return r.Type, true
		}
	}
	if v.isComplex() && v.node.GetName(nameType).Kind() == fhir.String {
		return v.node.GetName(nameType).Text(), true
	}
	return e.fetchedType(v)
}

func (e *eval) fetchedType(v *Value) (string, bool) {
	if e.env.Resolve == nil || e.cost(resolveCost) != nil {
		return "", false
	}
	target, ok := e.env.Resolve(*v)
	return target.TypeName(), ok && target.kind == kindNode && target.typ != nil
}

// memberOf asks Env.MemberOf, or R4's own code lists; a value set that nobody
// knows gives nothing.
func memberOf(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
	v, ok, err := e.single(pos, in)
	if err != nil || !ok {
		return out, err
	}
	url, ok, err := e.text(pos, args[0])
	if err != nil || !ok {
		return out, err
	}
	ask := e.env.MemberOf
	if ask == nil {
		ask = memberOfR4
	}
	if member, known := ask(v, url); known {
		out = append(out, Boolean(member))
	}
	return out, nil
}

func memberOfR4(v Value, url string) (member, known bool) {
	set, known := r4.ValueSetByURL(url)
	if !known {
		return false, false
	}
	if text, ok := v.Text(); ok {
		return set.HasCode(text), true
	}
	if v.TypeName() == "Coding" {
		return hasCoding(set, v.node), true
	}
	for c := range v.node.Get("coding").Items() {
		if hasCoding(set, c) {
			return true, true
		}
	}
	return false, true
}

func hasCoding(set *r4.ValueSet, n fhir.Node) bool {
	return set.Has(n.GetName(nameSystem).Text(), n.GetName(nameCode).Text())
}

// conformsTo asks Env.ConformsTo, or compares with R4's base types; a profile
// that nobody knows is an error.
func conformsTo(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
	v, ok, err := e.single(pos, in)
	if err != nil || !ok {
		return out, err
	}
	profile, ok, err := e.text(pos, args[0])
	if err != nil || !ok {
		return out, err
	}
	ask := e.env.ConformsTo
	if ask == nil {
		ask = isOfBaseType
	}
	conforms, known := ask(v, profile)
	if !known {
		return out, e.fail(pos, "the profile %s is unknown", clip(profile))
	}
	return append(out, Boolean(conforms)), nil
}

func isOfBaseType(v Value, profile string) (conforms, known bool) {
	name, ok := strings.CutPrefix(profile, urlVariables["ext-"])
	t := typeByName(name)
	if !ok || t == nil {
		return false, false
	}
	return v.kind == kindNode && r4.IsA(v.TypeName(), name), true
}

// subsumption makes subsumes, or turned around subsumedBy.
func subsumption(turned bool) plain {
	return func(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		a, okA, err := e.single(pos, in)
		if err != nil {
			return out, err
		}
		b, okB, err := e.single(pos, args[0])
		if err != nil || !okA || !okB {
			return out, err
		}
		if turned {
			a, b = b, a
		}
		if e.env.Subsumes != nil {
			if holds, known := e.env.Subsumes(a, b); known {
				out = append(out, Boolean(holds))
			}
			return out, nil
		}
		if sameCode(&a, &b) {
			out = append(out, Boolean(true))
		}
		return out, nil
	}
}

// sameCode: a code subsumes itself, whatever its system says.
func sameCode(a, b *Value) bool {
	if !a.isComplex() || !b.isComplex() {
		x, okX := a.Text()
		y, okY := b.Text()
		return okX && okY && x == y
	}
	code := a.node.GetName(nameCode)
	return code.Exists() && code.Text() == b.node.GetName(nameCode).Text() &&
		a.node.GetName(nameSystem).Text() == b.node.GetName(nameSystem).Text()
}

// checkModifiers passes its input on, and fails where an element has a modifier
// extension that is not named.
func checkModifiers(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
	allowed := map[string]bool{}
	for _, list := range args {
		url, _, err := e.text(pos, list)
		if err != nil {
			return out, err
		}
		allowed[url] = true
	}
	for i := range in {
		if in[i].kind != kindNode {
			continue
		}
		for x := range in[i].node.Get("modifierExtension").Items() {
			if url := x.GetName(nameURL).Text(); !allowed[url] {
				return out, e.fail(pos, "the modifier extension %s is not known here", clip(url))
			}
		}
	}
	return append(out, in...), nil
}
