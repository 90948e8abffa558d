package searchparam

import (
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Parameters that R4 lacks and the server itself goes by. They are found by code
// and searched by like R4's own, nobody defines others in their place, and the
// capability statement does not list them, as they have no definition to point
// to.

// addedParams is the first of their numbers, which count up to r4.UserParams; R4's own
// end far below. Persisted: never reuse.
const addedParams = r4.UserParams - 0x100

var added = func() map[plan.Type][]*r4.SearchParam {
	binary, _ := r4.TypeByName("Binary")
	return map[plan.Type][]*r4.SearchParam{
		// What decides who may read the content (R4 binary.html#security-context).
		binary: {{Number: addedParams, Code: "security-context", Base: "Binary", Type: r4.ParamReference, Expression: "Binary.securityContext"}},
	}
}()

// addedParam finds one of them.
func addedParam(t plan.Type, code string) (*r4.SearchParam, bool) {
	for _, p := range added[t] {
		if p.Code == code {
			return p, true
		}
	}
	return nil, false
}

// addOwn makes them known.
func (r *Registry) addOwn() {
	for _, list := range added {
		for _, p := range list {
			r.params[p] = &search.Param{Code: p.Code, Number: p.Number, Kind: search.KindOf(p.Type.String())}
		}
	}
}
