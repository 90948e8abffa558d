package searchparam

import (
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
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
	parts map[string][][]path
	// affirmed is "p.exists() and p != false": one boolean, also when the paths
	// lead nowhere (Patient.deceased).
	affirmed bool
	// content takes all strings of the resource (_content), by no path.
	content bool
	// expr is an expression that no paths can say: it is evaluated for each
	// resource (R4's own have none).
	expr *fhirpath.Expr
	err  error // the expression does not compile: the parameter has no entries
}

func newProgram(extractions []extraction) *program {
	p := &program{extractions: extractions}
	for i, x := range extractions {
		for _, path := range x.paths {
			p.trie.add(path.steps, taker{i, path.as, x.parts[path.typ]})
		}
	}
	p.trie.settle()
	return p
}

func newExtraction(resource string, p *r4.SearchParam, param *search.Param) extraction {
	x := extraction{param: param, parts: map[string][][]path{}}
	expression := p.Expression
	if of, ok := affirmed(expression); ok {
		expression, x.affirmed = of, true
	}
	if p.Code == codeContent {
		x.content = true
		return x
	}
	if param.Kind == search.KindWords {
		expression = resource + ".text.div" // R4 leaves it without one
	}
	if len(p.Components) > 0 {
		x.paths, x.err = compilePaths(resource, expression)
	} else {
		x.paths, x.err = valuePaths(resource, expression)
	}
	if x.err != nil && p.Number >= r4.UserParams && len(p.Components) == 0 {
		x.expr, x.err = general(resource, expression)
	}
	for _, c := range p.Components {
		if err := x.addPart(resource, c.Expression); x.err == nil {
			x.err = err
		}
	}
	return x
}

// affirmed is what an expression asks to be there and not false.
func affirmed(expression string) (of string, ok bool) {
	of, rest, ok := strings.Cut(expression, ".exists() and ")
	return of, ok && rest == of+" != false"
}

// addPart compiles a component's expression for the items of the composite,
// which may be of several types ("Observation | Observation.component").
func (x *extraction) addPart(resource, expression string) error {
	byType := map[string][]path{}
	for _, item := range x.paths {
		of := item.typ
		if strings.HasPrefix(expression, "%resource") {
			of = resource
		}
		paths, err := valuePaths(of, expression)
		if err != nil {
			return err
		}
		byType[item.typ] = paths
	}
	for typ, paths := range byType {
		x.parts[typ] = append(x.parts[typ], paths)
	}
	return nil
}

// Extractor makes the index entries of a store's resources. It may be used by
// many goroutines.
type Extractor struct {
	registry *Registry
	locator  search.Locator
	workers  sync.Pool
	readers  sync.Pool // workers that cut no text
}

// NewExtractor makes an extractor for a store: under its hash key, and with its
// own base URL, below which absolute references are its own.
func NewExtractor(r *Registry, key plan.HashKey, base string) *Extractor {
	x := &Extractor{registry: r, locator: search.Locator{Base: base, Types: r}}
	x.workers.New = func() any { return &worker{Extractor: x, entries: search.NewEntries(key)} }
	x.readers.New = func() any { return &worker{Extractor: x, entries: search.NewWhole(key)} }
	return x
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
	w := x.workers.Get().(*worker)
	defer x.workers.Put(w)
	return w.inspect(w.registry.programOf(key.Type), root)
}

// ExtractOf is Extract of the parameters of these numbers alone, which is cheaper;
// numbers must be sorted.
func (x *Extractor) ExtractOf(key plan.Key, root fhir.Node, numbers []uint16) ([]plan.Entry, error) {
	w := x.workers.Get().(*worker)
	defer x.workers.Put(w)
	entries, _, err := w.inspect(w.registry.programFor(key.Type, numbers), root)
	return entries, err
}

func (w *worker) inspect(p *program, root fhir.Node) ([]plan.Entry, []fault.Issue, error) {
	w.begin(p, root)
	defer w.end()
	w.visit(&w.program.trie, root)
	if n := w.entries.Len(); n > MaxEntries {
		return nil, nil, fault.New(fault.TooLarge, "searchparam.Extract", "the resource has over %d values to search by", MaxEntries)
	}
	w.finish()
	if n := w.entries.Len(); n > MaxEntries {
		return nil, nil, fault.New(fault.TooLarge, "searchparam.Extract", "the resource has over %d values to search by", MaxEntries)
	}
	return w.entries.Done(), w.issues, nil
}

// worker is the extraction of one resource, and the room for the next.
type worker struct {
	*Extractor
	program *program
	root    fhir.Node
	entries *search.Entries
	found   []uint8 // per extraction
	issues  []fault.Issue
}

func (w *worker) begin(p *program, root fhir.Node) {
	w.program, w.root, w.issues = p, root, nil
	w.entries.Reset()
	if cap(w.found) < len(p.extractions) {
		w.found = make([]uint8, len(p.extractions))
	}
	w.found = w.found[:len(p.extractions)]
	clear(w.found)
}

// end lets go of the resource.
func (w *worker) end() { w.root, w.issues = fhir.Node{}, nil }

// What was found of an extraction.
const (
	foundNone  = iota
	foundFalse // an affirmed one, and it is false
	foundTrue
)

func (w *worker) take(t *taker, n fhir.Node) {
	x := &w.program.extractions[t.index]
	if w.entries.Len() > MaxEntries {
		return // Inspect refuses the resource
	}
	switch {
	case t.as == elementResource && !w.targeted(x.param, n):
		return
	case x.affirmed:
		if n.Kind() == fhir.Bool && !n.Bool() && w.found[t.index] == foundNone {
			w.found[t.index] = foundFalse // of two, which R4 forbids, one is not false
			return
		}
	case x.param.Kind == search.KindWords:
		w.narrative(x.param, n)
	case x.param.Kind == search.KindPosition:
		at, ok := w.position(t.as, n)
		if !ok {
			return
		}
		w.entries.Position(x.param, at)
	case x.param.Kind == search.KindComposite:
		if !w.composite(x.param, t.parts, n) {
			return
		}
	default:
		w.convert(x.param, t.as, n)
	}
	w.found[t.index] = foundTrue
}

// targeted reports whether a resource that stands there itself is of a type that
// the parameter refers to: the first entry of a Bundle is a Composition in a
// document, and a MessageHeader in a message.
func (w *worker) targeted(p *search.Param, n fhir.Node) bool {
	t, ok := w.registry.Type(n.ResourceType())
	return ok && (len(p.Targets) == 0 || slices.Contains(p.Targets, t))
}

// finish adds what only the whole resource shows: which parameters are present.
func (w *worker) finish() {
	for r := w.root.GetName(nameContained).FirstItem(); r.Exists(); r = r.NextItem() {
		if t, ok := w.registry.Type(r.ResourceType()); ok {
			w.entries.Contained(t)
		}
	}
	for i := range w.program.extractions {
		x := &w.program.extractions[i]
		if x.content {
			w.content(x.param)
		}
		if x.expr != nil && w.evaluate(x) {
			w.found[i] = foundTrue
		}
		if x.affirmed {
			w.entries.Coding(x.param, search.Coding{Code: strconv.FormatBool(w.found[i] == foundTrue)})
		}
		w.entries.Presence(x.param, x.affirmed || w.found[i] != foundNone)
	}
}

// composite combines what the components take from one item; false when one of
// them takes nothing.
func (w *worker) composite(p *search.Param, parts [][]path, item fhir.Node) bool {
	w.entries.BeginItem(p)
	for i := range parts {
		w.entries.NextComponent()
		for j := range parts[i] {
			part, from := &parts[i][j], item
			if part.fromRoot {
				from = w.root
			}
			w.form(p.Components[i].Kind, part.as, part.steps, from)
		}
		if w.entries.ComponentLen() == 0 {
			return false
		}
	}
	if !w.entries.EndItem() {
		w.warn(item, "has too many codes for the search parameter "+p.Code)
	}
	return true
}

// form goes the steps to a component's values.
func (w *worker) form(kind search.Kind, as element, steps []step, n fhir.Node) {
	if len(steps) == 0 {
		w.convertForm(kind, as, n)
		return
	}
	s := steps[0]
	if s.name == 0 {
		if s.keep(n, 0) {
			w.form(kind, as, steps[1:], n)
		}
		return
	}
	place := 0
	for item := n.GetName(s.name).FirstItem(); item.Exists(); item = item.NextItem() {
		if item.Kind() == fhir.Null {
			continue
		}
		if s.keep == nil || s.keep(item, place) {
			w.form(kind, as, steps[1:], item)
		}
		place++
	}
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
