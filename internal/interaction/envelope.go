package interaction

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// known holds a part of a batch or transaction that says what is asked for
// (Bundle, Bundle.entry, Bundle.entry.request) against R4's elements: an
// ifNoneExist that is misspelt or no string would else be passed over, and the
// resource made twice. At the level minimal, members that R4 does not know pass.
func (s *Session) known(n fhir.Node, typ, place string) error {
	for name, member := range n.Members() {
		if name == "resourceType" || strings.HasPrefix(name, "_") {
			continue
		}
		wrong := ""
		e, known := r4.Element(typ, name)
		switch {
		case known:
			wrong = misshapen(e, member.Kind())
		case s.Level != validate.Minimal:
			wrong = "Unrecognised property '@" + cutText(name) + "'"
		}
		if wrong == "" {
			continue
		}
		line, col := member.Position()
		at := place + "." + cutText(name)
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.known", Subject: at, Detail: "it is not as R4 has it", Place: []fault.Issue{{
			Code: "structure", Detail: wrong, Expression: at, Line: line, Col: col,
		}}}
	}
	return nil
}

// misshapen says how an element's JSON is wrong; empty when it is not, as far as
// can be seen from outside.
func misshapen(e *r4.ElementInfo, kind fhir.Kind) string {
	want := fhir.Object
	switch {
	case e.IsArray():
		want = fhir.Array
	case e.Type == "code", e.Type == "uri", e.Type == "string", e.Type == "instant", e.Type == "id":
		want = fhir.String
	case e.Type[0] >= 'a' && e.Type[0] <= 'z':
		return "" // other primitives are not looked at
	}
	if kind == want {
		return ""
	}
	return "This property must be " + withArticle(want) + ", not " + withArticle(kind)
}

func withArticle(kind fhir.Kind) string {
	switch kind {
	case fhir.Object, fhir.Array:
		return "an " + kind.String()
	case fhir.Null, fhir.Absent:
		return kind.String()
	}
	return "a " + kind.String()
}
