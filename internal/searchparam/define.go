package searchparam

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Definition is what of a SearchParameter resource decides which entries there
// are and how they are asked (http://hl7.org/fhir/R4/searchparameter.html).
type Definition struct {
	ID         string // of the resource
	URL        string
	Code       string
	Kind       string // number, date, string, token, reference, composite, quantity, uri
	Expression string
	Bases      []string    // resource types, or Resource, or DomainResource
	Targets    []string    `json:",omitempty"` // of a reference; empty is any
	Components []Component `json:",omitempty"` // of a composite
	// Number is that of its entries (from r4.UserParams up), 0 when it has none
	// yet. A definition that changes gets another, so that entries of the old one
	// are never read by the new.
	Number uint16
}

// Component is one part of a composite.
type Component struct{ Definition, Expression string }

// Same reports whether two definitions make the same entries.
func (d *Definition) Same(other *Definition) bool {
	return d.URL == other.URL && d.Code == other.Code && d.Kind == other.Kind && d.Expression == other.Expression &&
		slices.Equal(d.Bases, other.Bases) && slices.Equal(d.Targets, other.Targets) && slices.Equal(d.Components, other.Components)
}

// Bounds of a definition. The resource is bounded too.
const (
	maxCodeLength       = 64
	maxExpressionLength = 8 << 10
)

// ReadDefinition reads a SearchParameter resource. used is false for one that
// has no effect: retired or of unknown status, or what R4 itself defines, which is
// there anyway.
func ReadDefinition(root fhir.Node) (d Definition, used bool) {
	text := func(name string) string { return root.Get(name).Text() }
	texts := func(name string) (all []string) {
		for item := range root.Get(name).Items() {
			all = append(all, item.Text())
		}
		return all
	}
	d = Definition{
		ID: text("id"), URL: text("url"), Code: text("code"), Kind: text("type"), Expression: text("expression"),
		Bases: texts("base"), Targets: texts("target"),
	}
	for item := range root.Get("component").Items() {
		d.Components = append(d.Components, Component{item.Get("definition").Text(), item.Get("expression").Text()})
	}
	status := text("status")
	return d, (status == "active" || status == "draft") && !d.published()
}

// published reports whether R4 itself has this definition on every base, under its own
// URL or, as implementation guides define it again, under another.
func (d *Definition) published() bool {
	types := d.types()
	return len(types) > 0 && !slices.ContainsFunc(types, func(t plan.Type) bool { return !d.publishedOn(t) })
}

func (d *Definition) publishedOn(t plan.Type) bool {
	if p, ok := r4.ParamByURL(t, d.URL); ok {
		return p.Code == d.Code
	}
	p, ok := r4.Param(t, d.Code)
	return ok && p.Type.String() == d.Kind && len(p.Components) == 0 && p.Expression != "" &&
		slices.Equal(written(t, p.Expression), written(t, d.Expression))
}

var (
	// cast is an alternative of the form (path as type).
	cast = regexp.MustCompile(`^\(?([^ ]+) as ([A-Za-z]+)\)?$`)
	// targeted narrows a reference to what R4 has as the parameter's target anyway:
	// US Core's patient is Condition.subject.
	targeted = regexp.MustCompile(`\.where\(resolve\(\) is [A-Za-z]+\)$`)
)

// written are the alternatives of an expression for a type, sorted, each in one way
// of writing it: of the resource, without blanks, and with as for every choice of type.
func written(t plan.Type, expression string) []string {
	name := r4.TypeName(t)
	var all []string
	for _, one := range alternatives(expressionOn(name, expression)) {
		one = targeted.ReplaceAllString(cast.ReplaceAllString(one, "$1.as($2)"), "")
		one = strings.ReplaceAll(strings.Join(strings.Fields(one), ""), ".ofType(", ".as(")
		if first, rest, ok := strings.Cut(one, "."); ok && r4.IsA(name, first) {
			one = rest
		}
		all = append(all, one)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// types are the resource types that the bases stand for, each once, by number.
func (d *Definition) types() []plan.Type {
	var types []plan.Type
	for _, t := range r4.ResourceTypes() {
		if slices.ContainsFunc(d.Bases, func(base string) bool { return r4.IsA(r4.TypeName(t), base) }) {
			types = append(types, t)
		}
	}
	return types
}

// Types are the resource types that the definition adds a parameter to.
func (d *Definition) Types() []plan.Type { return d.types() }

// reserved are names with a meaning of their own in a search of this server.
var reserved = map[string]bool{"page": true, "createdAt": true}

// Check looks for what makes a definition unusable, beside R4's own parameters
// and others: definitions that are used already. It gives an issue for each
// fault, with its place in the resource.
func (d *Definition) Check(others []Definition) []fault.Issue {
	c := &definitionCheck{Definition: d}
	c.name()
	c.bases()
	c.kind()
	if len(c.issues) == 0 {
		c.expressions(others)
		c.clashes(others)
	}
	return c.issues
}

type definitionCheck struct {
	*Definition
	issues []fault.Issue
}

func (c *definitionCheck) wrong(member, format string, args ...any) {
	c.issues = append(c.issues, fault.Issue{Severity: fault.SeverityError, Kind: fault.Invalid,
		Detail: fmt.Sprintf(format, args...), Expression: "SearchParameter." + member})
}

func (c *definitionCheck) name() {
	switch code := c.Code; {
	case code == "":
		c.wrong("code", "a search parameter needs a code to be searched by")
	case len(code) > maxCodeLength || strings.ContainsFunc(code, func(r rune) bool { return !codeLetter(r) }):
		c.wrong("code", "a code is up to %d letters, digits, - and _", maxCodeLength)
	case code[0] == '_' || reserved[code]:
		c.wrong("code", "%q is a name of the server's own: codes do not begin with _", code)
	}
	if c.URL == "" {
		c.wrong("url", "a search parameter needs a url")
	}
}

func codeLetter(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_'
}

func (c *definitionCheck) bases() {
	if len(c.Bases) == 0 {
		c.wrong("base", "a search parameter needs a resource type")
	}
	for i, base := range c.Bases {
		if _, ok := r4.TypeByName(base); !ok && base != "Resource" && base != "DomainResource" {
			c.wrong(fmt.Sprintf("base[%d]", i), "%q is no resource type of R4", base)
		}
	}
	for i, target := range c.Targets {
		if _, ok := r4.TypeByName(target); !ok {
			c.wrong(fmt.Sprintf("target[%d]", i), "%q is no resource type of R4", target)
		}
	}
}

func (c *definitionCheck) kind() {
	t, ok := r4.ParamTypeByName(c.Kind)
	switch {
	case !ok:
		c.wrong("type", "%q is no type of search parameters", c.Kind)
	case t == r4.ParamSpecial:
		c.wrong("type", "what a special parameter means is not in its definition: only number, date, string, token, reference, composite, quantity and uri can be defined")
	case t == r4.ParamComposite && len(c.Components) == 0:
		c.wrong("component", "a composite needs components")
	case t != r4.ParamComposite && len(c.Components) > 0:
		c.wrong("component", "only composites have components")
	case c.Expression == "":
		c.wrong("expression", "without an expression nothing can be indexed (a FHIRPath expression; xpath is not read)")
	case len(c.Expression) > maxExpressionLength:
		c.wrong("expression", "it is longer than %d bytes", maxExpressionLength)
	}
}

// expressions compiles what will be evaluated, for each type.
func (c *definitionCheck) expressions(others []Definition) {
	fits := false
	for _, t := range c.types() {
		p, err := c.source(t, others)
		if err != nil {
			c.wrong("component", "%s", err.Error())
			return
		}
		if p.Expression == "" {
			continue // all of it is of other types
		}
		fits = true
		x := newExtraction(r4.TypeName(t), p, describe(p))
		switch {
		case x.err != nil:
			c.wrong("expression", "it does not fit %s: %s", r4.TypeName(t), reason(x.err))
			return
		case len(x.paths) == 0 && x.expr == nil:
			c.wrong("expression", "it says nothing of %s", r4.TypeName(t))
			return
		}
	}
	if !fits {
		c.wrong("expression", "it says nothing of the types in base")
	}
}

func reason(err error) string {
	e := fault.From(err)
	if e.Kind == fault.Internal { // compilePaths has no kinds
		return err.Error()
	}
	return e.Message()
}

func (c *definitionCheck) clashes(others []Definition) {
	for _, t := range c.types() {
		if p, ok := r4.Param(t, c.Code); ok {
			c.wrong("code", "%s has the search parameter %q of R4 already (%s)", r4.TypeName(t), c.Code, p.URL)
			return
		}
		if _, ok := addedParam(t, c.Code); ok {
			c.wrong("code", "%s has the search parameter %q of the server's own already", r4.TypeName(t), c.Code)
			return
		}
		for i := range others {
			other := &others[i]
			if other.ID != c.ID && other.Code == c.Code && slices.Contains(other.types(), t) {
				c.wrong("code", "%s has the search parameter %q already: SearchParameter/%s", r4.TypeName(t), c.Code, other.ID)
				return
			}
		}
	}
}

// source is the definition on one type, in the form of R4's own.
func (d *Definition) source(t plan.Type, others []Definition) (*r4.SearchParam, error) {
	kind, _ := r4.ParamTypeByName(d.Kind)
	name := r4.TypeName(t)
	p := &r4.SearchParam{Number: max(d.Number, r4.UserParams), URL: d.URL, Code: d.Code, Base: name, Type: kind, Expression: expressionOn(name, d.Expression)}
	for _, target := range d.Targets {
		if id, ok := r4.TypeByName(target); ok {
			p.Targets = append(p.Targets, id)
		}
	}
	for _, part := range d.Components {
		url, _, _ := strings.Cut(part.Definition, "|")
		of, ok := r4.ParamByURL(t, url)
		if !ok {
			of, ok = definedPart(url, t, others)
		}
		if !ok || of.Type == r4.ParamComposite || of.Type == r4.ParamSpecial {
			return nil, fmt.Errorf("%s has no search parameter %s that could be a component", name, url)
		}
		p.Components = append(p.Components, r4.Component{URL: url, Expression: part.Expression, Param: of})
	}
	return p, nil
}

func definedPart(url string, t plan.Type, others []Definition) (*r4.SearchParam, bool) {
	for i := range others {
		if d := &others[i]; d.URL == url && len(d.Components) == 0 && slices.Contains(d.types(), t) {
			p, err := d.source(t, nil)
			return p, err == nil
		}
	}
	return nil, false
}

// expressionOn leaves out the alternatives that begin at other types than name.
func expressionOn(name, expression string) string {
	var kept []string
	for _, alternative := range splitTop(expression, '|') {
		alternative = strings.TrimSpace(alternative)
		first := strings.TrimLeft(alternative, "( \t\r\n")
		if end := strings.IndexFunc(first, func(r rune) bool { return !codeLetter(r) }); end >= 0 {
			first = first[:end]
		}
		_, isType := r4.TypeByName(first)
		if !isType || r4.IsA(name, first) {
			kept = append(kept, alternative)
		}
	}
	return strings.Join(kept, " | ")
}

// general compiles an expression that needs all of FHIRPath.
func general(resource, expression string) (*fhirpath.Expr, error) {
	x, err := fhirpath.Compile(expression)
	if err != nil {
		return nil, err
	}
	return x, x.Check(resource)
}

// describe is a defined parameter as search knows it.
func describe(p *r4.SearchParam) *search.Param {
	param := &search.Param{Code: p.Code, Number: p.Number, URL: p.URL, Kind: search.KindOf(p.Type.String()), Targets: p.Targets}
	if param.Kind == search.KindToken {
		param.Implied = implied(p)
		param.ManyCodes = true // codes may be as many as resources
	}
	param.Parts = param.Kind == search.KindString && names(p)
	referring(param, p)
	for _, c := range p.Components {
		param.Components = append(param.Components, describe(c.Param))
	}
	return param
}
