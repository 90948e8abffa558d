package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// searchParameter is the part of SearchParameter that the tables need
// (https://hl7.org/fhir/R4/searchparameter.html).
type searchParameter struct {
	URL        string
	Code       string
	Base       []string
	Type       string
	Expression string
	Target     []string
	Comparator []string
	Modifier   []string
	Component  []struct{ Definition, Expression string }
}

// buildParams makes one search parameter per definition and base, numbered:
// those of Resource first, of DomainResource next, then type by type.
func buildParams(defs []*searchParameter, structures []*r4.Structure, types []r4.ResourceType, numbers *lock) ([]*r4.SearchParam, error) {
	ids := map[string]r4.TypeID{}
	for _, t := range types {
		ids[t.Name] = t.ID
	}
	in := indexStructures(structures)
	var all []*r4.SearchParam
	for _, d := range slices.Concat(defs, proseParams) {
		if leaveOut(d.URL) {
			continue
		}
		for _, base := range d.Base {
			p, err := d.on(base, ids, in)
			if err != nil {
				return nil, fmt.Errorf("%s on %s: %w", d.URL, base, err)
			}
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *r4.SearchParam) int { return strings.Compare(paramOrder(a), paramOrder(b)) })
	if err := numberParams(all, numbers); err != nil {
		return nil, err
	}
	return all, checkComponents(all)
}

// paramOrder is the order in which parameters that have no number yet get one.
func paramOrder(p *r4.SearchParam) string {
	rank := map[string]string{"Resource": "1", "DomainResource": "2"}[p.Base]
	if rank == "" {
		rank = "3" + p.Base
	}
	return rank + " " + p.Code
}

func numberParams(all []*r4.SearchParam, numbers *lock) error {
	given := map[uint16]bool{}
	for _, p := range all {
		n, err := numbers.number("param", p.Base+" "+p.Code)
		if err != nil {
			return err
		}
		if given[n] {
			return fmt.Errorf("%s: a second definition of %s on %s", p.URL, p.Code, p.Base)
		}
		p.Number, given[n] = n, true
	}
	slices.SortFunc(all, func(a, b *r4.SearchParam) int { return int(a.Number) - int(b.Number) })
	return nil
}

// on is the definition as it stands on one base type.
func (d *searchParameter) on(base string, ids map[string]r4.TypeID, in structureIndex) (*r4.SearchParam, error) {
	kind, ok := r4.ParamTypeByName(d.Type)
	if !ok {
		return nil, fmt.Errorf("unknown type %q", d.Type)
	}
	expression, err := d.expressionOn(base)
	if err != nil {
		return nil, err
	}
	var reachable []string
	if len(d.Base) > 1 {
		reachable = in.reachable(expression)
	}
	p := &r4.SearchParam{URL: d.URL, Code: d.Code, Base: base, Type: kind, Expression: expression,
		Comparators: d.Comparator, Modifiers: d.Modifier}
	for _, name := range d.Target {
		id, ok := ids[name]
		if !ok {
			return nil, fmt.Errorf("unknown target %q", name)
		}
		if reachable == nil || slices.Contains(reachable, name) {
			p.Targets = append(p.Targets, id)
		}
	}
	slices.Sort(p.Targets)
	for _, c := range d.Component {
		expression, err := corrected(componentCorrections, [2]string{d.URL, c.Definition}, c.Expression)
		if err != nil {
			return nil, err
		}
		p.Components = append(p.Components, r4.Component{URL: c.Definition, Expression: mend(expression)})
	}
	return p, nil
}

// corrected gives the expression as the table has it, if it has it.
func corrected[K comparable](table map[K]correction, key K, published string) (string, error) {
	c, ok := table[key]
	if !ok {
		return published, nil
	}
	if c.published != published {
		return "", fmt.Errorf("%v is corrected from %q, but published as %q", key, c.published, published)
	}
	return c.corrected, nil
}

// expressionOn keeps the alternatives of the expression that begin at the base
// type: an expression for several types is evaluated for one at a time.
func (d *searchParameter) expressionOn(base string) (string, error) {
	expression, err := corrected(paramCorrections, d.URL, d.Expression)
	if err != nil || expression == "" {
		return "", err
	}
	var kept []string
	for _, a := range alternatives(expression) {
		root := rootName(a)
		if !slices.Contains(d.Base, root) {
			return "", fmt.Errorf("%q begins at none of the bases", a)
		}
		if root == base {
			kept = append(kept, a)
		}
	}
	if len(kept) == 0 {
		return "", fmt.Errorf("nothing in %q is for it", expression)
	}
	return mend(strings.Join(kept, " | ")), nil
}

// alternatives splits an expression at the unions that stand outside brackets
// and strings.
func alternatives(expression string) []string {
	var parts []string
	depth, quoted, start := 0, false, 0
	for i := 0; i < len(expression); i++ {
		switch c := expression[i]; {
		case c == '\\' && quoted:
			i++
		case c == '\'':
			quoted = !quoted
		case quoted:
		case c == '(' || c == '[':
			depth++
		case c == ')' || c == ']':
			depth--
		case c == '|' && depth == 0:
			parts = append(parts, strings.TrimSpace(expression[start:i]))
			start = i + 1
		}
	}
	return append(parts, strings.TrimSpace(expression[start:]))
}

// rootName is the first name in an expression.
func rootName(expression string) string {
	expression = strings.TrimLeft(expression, "( ")
	if end := strings.IndexFunc(expression, func(r rune) bool { return r == '.' || r == ' ' || r == ')' }); end >= 0 {
		return expression[:end]
	}
	return expression
}

var (
	asOperator = regexp.MustCompile(`\(([A-Za-z.]+) as ([A-Za-z]+)\)`)
	asFunction = regexp.MustCompile(`\.as\(([A-Za-z]+)\)`)
)

// mend rewrites as to ofType and corrects the names of types.
//
// FHIRPath's as refuses a collection of more than one item
// (http://hl7.org/fhirpath/N1/#as-type-specifier), but published expressions use
// it on elements that repeat, such as (Group.characteristic.value as Quantity).
// What they mean is ofType, which says the same for one item; R5 publishes it so.
func mend(expression string) string {
	expression = asOperator.ReplaceAllString(expression, "$1.ofType($2)")
	expression = asFunction.ReplaceAllString(expression, ".ofType($1)")
	for wrong, right := range typeNames {
		expression = strings.ReplaceAll(expression, ".ofType("+wrong+")", ".ofType("+right+")")
	}
	return expression
}

// checkComponents looks whether each part of a composite is a parameter of the
// same type.
func checkComponents(all []*r4.SearchParam) error {
	have := map[string]bool{}
	for _, p := range all {
		have[p.Base+" "+p.URL] = true
	}
	for _, p := range all {
		for _, c := range p.Components {
			if !have[p.Base+" "+c.URL] {
				return fmt.Errorf("%s on %s: no component %s", p.URL, p.Base, c.URL)
			}
		}
	}
	return nil
}
