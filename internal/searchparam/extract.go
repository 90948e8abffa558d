package searchparam

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// extraction is what one parameter takes from a resource of one type.
type extraction struct {
	param  *search.Param
	source source
	// parts of a composite: what each component takes from an item that source
	// gives.
	parts []perType
	err   error // the expression does not compile: the parameter has no entries
}

// source gives typed values.
type source interface {
	// values calls yield for each value that the expression gives, asked of a
	// node of a resource.
	values(root, n fhir.Node, yield func(value))
}

// value is one result of an expression: a node and the type it is of, or for a
// boolean that stands nowhere in the resource, its text.
type value struct {
	node    fhir.Node
	typ     string
	literal string
}

// paths is the source that only walks members.
type paths []path

func (ps paths) values(root, n fhir.Node, yield func(value)) {
	for i := range ps {
		p := &ps[i]
		from := n
		if p.fromRoot {
			from = root
		}
		p.walk(from, func(at fhir.Node) { yield(value{node: at, typ: p.typ}) })
	}
}

// affirmed is "p.exists() and p != false": one boolean, also when p is absent
// (Patient.deceased).
type affirmed struct{ paths }

func (a affirmed) values(root, n fhir.Node, yield func(value)) {
	is := "false"
	a.paths.values(root, n, func(v value) {
		if v.node.Kind() != fhir.Bool || v.node.Bool() {
			is = "true"
		}
	})
	yield(value{typ: "boolean", literal: is})
}

func (r *Registry) extraction(t plan.Type, p *r4.SearchParam, param *search.Param) extraction {
	x := extraction{param: param}
	x.source, x.err = compileSource(r4.TypeName(t), p.Expression)
	for _, c := range p.Components {
		part, err := componentSource(r4.TypeName(t), x.source, c.Expression)
		if x.parts = append(x.parts, part); x.err == nil {
			x.err = err
		}
	}
	return x
}

func compileSource(of, expression string) (source, error) {
	if p, rest, ok := strings.Cut(expression, ".exists() and "); ok && rest == p+" != false" {
		ps, err := compilePaths(of, p)
		return affirmed{ps}, err
	}
	ps, err := compilePaths(of, expression)
	return paths(ps), err
}

// componentSource compiles a component's expression for the items of the
// composite. Items of several types ("Observation | Observation.component")
// share the members that a component names; each type's paths are tried.
func componentSource(resource string, items source, expression string) (perType, error) {
	bases, _ := items.(paths)
	byType := perType{}
	for _, base := range bases {
		of := base.typ
		if strings.HasPrefix(expression, "%resource") {
			of = resource
		}
		ps, err := compilePaths(of, expression)
		if err != nil {
			return nil, err
		}
		byType[base.typ] = ps
	}
	return byType, nil
}

// perType is a component's source, by the type of the item it is asked of.
type perType map[string]paths

// Extractor makes the index entries of a store's resources. It may be used by
// many goroutines.
type Extractor struct {
	registry *Registry
	key      plan.HashKey
	locator  search.Locator
}

// NewExtractor makes an extractor for a store: under its hash key, and with its
// own base URL, below which absolute references are its own.
func NewExtractor(r *Registry, key plan.HashKey, base string) *Extractor {
	return &Extractor{registry: r, key: key, locator: search.Locator{Base: base, Types: r}}
}

// MaxEntries bounds the entries of one resource.
const MaxEntries = 200_000

// Extract gives the entries of one resource, sorted, each once: fault.TooLarge
// beyond MaxEntries. Values that are not what their type demands have none.
func (x *Extractor) Extract(key plan.Key, root fhir.Node) ([]plan.Entry, error) {
	entries, _, err := x.Inspect(key, root)
	return entries, err
}

// Inspect is Extract with the warnings: one issue for each value that cannot be
// searched by, because it is not what its type demands.
func (x *Extractor) Inspect(key plan.Key, root fhir.Node) ([]plan.Entry, []fault.Issue, error) {
	w := &worker{Extractor: x, root: root, entries: search.NewEntries(x.key)}
	for _, one := range x.registry.programsOf(key.Type) {
		w.extract(one)
		if n := w.entries.Len(); n > MaxEntries {
			return nil, nil, fault.New(fault.TooLarge, "searchparam.Extract", "the resource has over %d values to search by", MaxEntries)
		}
	}
	return w.entries.Done(), w.issues, nil
}

// worker is the extraction of one resource.
type worker struct {
	*Extractor
	root    fhir.Node
	entries *search.Entries
	issues  []fault.Issue
}

func (w *worker) extract(x extraction) {
	if x.err != nil {
		return
	}
	found := false
	x.source.values(w.root, w.root, func(v value) {
		if x.param.Kind == search.KindComposite {
			found = w.composite(x, v) || found
			return
		}
		found = true
		w.convert(x.param, v)
	})
	if found {
		w.entries.Present(x.param)
	}
}

// composite combines what the components take from one item.
func (w *worker) composite(x extraction, item value) bool {
	components := make([][]search.Form, len(x.parts))
	for i, part := range x.parts {
		part[item.typ].values(w.root, item.node, func(v value) {
			components[i] = append(components[i], w.forms(x.param, x.param.Components[i], v)...)
		})
		if len(components[i]) == 0 {
			return false
		}
	}
	if !w.entries.Composite(x.param, components) {
		w.warn(item.node, "has too many codes for the search parameter "+x.param.Code)
	}
	return true
}

// maxIssues bounds the warnings of one resource.
const maxIssues = 100

func (w *worker) warn(n fhir.Node, detail string) {
	if len(w.issues) >= maxIssues {
		return
	}
	line, col := n.Position()
	w.issues = append(w.issues, fault.Issue{Severity: fault.SeverityWarning, Kind: fault.Invalid,
		Detail: detail + "; it cannot be searched by", Expression: n.Path(), Line: line, Col: col})
}
