package searchparam

import (
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// program is everything that is taken from resources of one type.
type program struct {
	extractions []extraction
	trie        trie
}

// extraction is what one parameter takes.
type extraction struct {
	param *search.Param
	paths []path
	// parts of a composite: what each component takes from an item that paths
	// lead to, by the type of the item.
	parts []map[string][]path
	// affirmed is "p.exists() and p != false": one boolean, also when the paths
	// lead nowhere (Patient.deceased).
	affirmed bool
	err      error // the expression does not compile: the parameter has no entries
}

// value is one result of an expression: a node and the type it is of.
type value struct {
	node fhir.Node
	typ  string
}

func newProgram(extractions []extraction) *program {
	p := &program{extractions: extractions}
	for i, x := range extractions {
		for _, path := range x.paths {
			p.trie.add(path.steps, taker{i, path.typ})
		}
	}
	return p
}

func newExtraction(resource string, p *r4.SearchParam, param *search.Param) extraction {
	x := extraction{param: param}
	expression := p.Expression
	if of, rest, ok := strings.Cut(expression, ".exists() and "); ok && rest == of+" != false" {
		expression, x.affirmed = of, true
	}
	x.paths, x.err = compilePaths(resource, expression)
	for _, c := range p.Components {
		part, err := componentPaths(resource, x.paths, c.Expression)
		if x.parts = append(x.parts, part); x.err == nil {
			x.err = err
		}
	}
	return x
}

// componentPaths compiles a component's expression for the items of the
// composite, which may be of several types ("Observation |
// Observation.component").
func componentPaths(resource string, items []path, expression string) (map[string][]path, error) {
	byType := map[string][]path{}
	for _, item := range items {
		of := item.typ
		if strings.HasPrefix(expression, "%resource") {
			of = resource
		}
		paths, err := compilePaths(of, expression)
		if err != nil {
			return nil, err
		}
		byType[item.typ] = paths
	}
	return byType, nil
}

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
	w := &worker{Extractor: x, program: x.registry.programOf(key.Type), root: root, entries: search.NewEntries(x.key)}
	w.found = make([]uint8, len(w.program.extractions))
	w.program.trie.visit(root, w.take)
	if n := w.entries.Len(); n > MaxEntries {
		return nil, nil, fault.New(fault.TooLarge, "searchparam.Extract", "the resource has over %d values to search by", MaxEntries)
	}
	w.finish()
	return w.entries.Done(), w.issues, nil
}

// worker is the extraction of one resource.
type worker struct {
	*Extractor
	program *program
	root    fhir.Node
	entries *search.Entries
	found   []uint8 // per extraction
	issues  []fault.Issue
}

// What was found of an extraction.
const (
	foundNone  = iota
	foundFalse // an affirmed one, and it is false
	foundTrue
)

func (w *worker) take(taken taker, n fhir.Node) {
	x := &w.program.extractions[taken.index]
	v := value{n, taken.typ}
	if w.entries.Len() > MaxEntries {
		return // Inspect refuses the resource
	}
	switch {
	case x.affirmed:
		if n.Kind() == fhir.Bool && !n.Bool() {
			w.found[taken.index] = foundFalse
			return
		}
	case x.param.Kind == search.KindComposite:
		if !w.composite(x, v) {
			return
		}
	default:
		w.convert(x.param, v)
	}
	w.found[taken.index] = foundTrue
}

// finish adds what only the whole resource shows: which parameters are present.
func (w *worker) finish() {
	for i := range w.program.extractions {
		x := &w.program.extractions[i]
		if x.affirmed {
			w.entries.Coding(x.param, search.Coding{Code: strconv.FormatBool(w.found[i] == foundTrue)})
		}
		if x.affirmed || w.found[i] != foundNone {
			w.entries.Present(x.param)
		}
	}
}

// composite combines what the components take from one item.
func (w *worker) composite(x *extraction, item value) bool {
	components := make([][]search.Form, len(x.parts))
	for i, part := range x.parts {
		for j := range part[item.typ] {
			p := &part[item.typ][j]
			from := item.node
			if p.fromRoot {
				from = w.root
			}
			p.walk(from, func(n fhir.Node) {
				components[i] = append(components[i], w.forms(x.param, x.param.Components[i], value{n, p.typ})...)
			})
		}
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
