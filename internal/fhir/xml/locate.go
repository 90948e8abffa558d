package xml

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// maxExpression bounds the length of an expression Locate looks for, because it is
// taken apart step by step. R4's own at DefaultLimits.MaxDepth stay below it.
const maxExpression = 16 << 10

// Locate gives each issue that has an Expression the line and column of the
// element or attribute in src which the expression means; of the nearest element
// around it when there is none, as with what is missing. So findings about
// the JSON that ToJSON made of src can name places its sender knows. An issue
// whose expression leads nowhere loses its line and column.
func Locate(src []byte, places []fault.Issue) {
	found := map[string]int{}
	for _, p := range places {
		for e := p.Expression; e != "" && len(e) <= maxExpression; e = around(e) {
			found[e] = -1
		}
	}
	var r reader
	var path []byte
	r.visit = func(at int) {
		path = appendPath(path[:0], r.path)
		if earlier, wanted := found[string(path)]; wanted && earlier < 0 {
			found[string(path)] = at
		}
	}
	// What cannot be read any further has no more places to tell.
	_, _ = r.read(src, fhir.Limits{MaxBytes: len(src)})
	for i := range places {
		p := &places[i]
		e := p.Expression
		p.Line, p.Col = 0, 0
		if len(e) > maxExpression {
			continue
		}
		for e != "" && found[e] < 0 {
			e = around(e)
		}
		if e != "" {
			p.Line, p.Col = position(src, found[e])
		}
	}
}

// around is the expression of what is around an expression's place: that without
// its last step or index, "" of a single step.
func around(expression string) string {
	return expression[:max(strings.LastIndexAny(expression, ".["), 0)]
}
