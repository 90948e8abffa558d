package searchparam

import (
	"strconv"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
	"github.com/tarn-fhir/tarn/internal/search"
)

// generalEnv is what expressions of users are evaluated under. as filters, as in
// R4's own search parameters; the bounds are far above what an expression over
// one resource takes, and keep a write from waiting for a costly one.
var generalEnv = fhirpath.Env{AsFilters: true, Limits: fhirpath.Limits{MaxSteps: 1_000_000, MaxItems: 100_000}}

// evaluate makes the entries of an expression that needs all of FHIRPath, and
// reports whether it gave anything.
func (w *worker) evaluate(x *extraction) bool {
	values, err := x.expr.Eval(&generalEnv, w.root)
	if err != nil {
		w.warn(w.root, "has no value that the search parameter "+x.param.Code+" could be evaluated to")
		return false
	}
	found := false
	for _, v := range values {
		if n, ok := v.Node(); ok {
			eachValue(v.TypeName(), n, func(as element, n fhir.Node) {
				found = true
				if n.Kind() != fhir.Null {
					w.convert(x.param, as, n)
				}
			})
			continue
		}
		found = true
		w.system(x.param, v)
	}
	return found
}

// eachValue gives what a node is searched by: the node, or the value of an
// extension.
func eachValue(typ string, n fhir.Node, yield func(as element, n fhir.Node)) {
	if typ != "Extension" {
		yield(elementOf(typ), n)
		return
	}
	paths, _ := extensionValues() // an error of it keeps the parameter from compiling
	for i := range paths {
		paths[i].walk(n, func(value fhir.Node) { yield(paths[i].as, value) })
	}
}

// system makes the entries of a value that an expression computed.
func (w *worker) system(p *search.Param, v fhirpath.Value) {
	switch p.Kind {
	case search.KindToken:
		w.entries.Coding(p, search.Coding{Code: v.String()})
	case search.KindString:
		w.entries.String(p, v.String())
	case search.KindURI:
		w.entries.URI(p, v.String())
	case search.KindDate:
		if i, ok := v.Interval(); ok {
			w.entries.Interval(p, i.Stretch())
		}
	case search.KindNumber, search.KindQuantity:
		w.amountOf(p, v)
	case search.KindReference:
		if text, ok := v.Text(); ok && text != "" {
			if to := w.locator.Locate(text); to != (search.Target{}) {
				w.entries.Reference(p, to)
			}
		}
	}
}

func (w *worker) amountOf(p *search.Param, v fhirpath.Value) {
	q, ok := v.Quantity()
	if !ok {
		return
	}
	f, err := strconv.ParseFloat(q.Value.Text('g'), 64)
	if err != nil {
		return
	}
	a := search.Amount{Low: f, High: f}
	if p.Kind == search.KindNumber {
		w.entries.Number(p, a)
		return
	}
	w.entries.Quantity(p, a)
}

// evaluated gives the elements of a general expression.
func evaluated(of *extraction, root fhir.Node, yield func(as element, n fhir.Node)) {
	if of.expr == nil {
		return
	}
	values, err := of.expr.Eval(&generalEnv, root)
	if err != nil {
		return // it has no entries either
	}
	for _, v := range values {
		if n, ok := v.Node(); ok {
			eachValue(v.TypeName(), n, yield)
		}
	}
}
