package interaction

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

func parseParameters(body []byte) (*fhir.Document, error) {
	doc, err := fhir.Parse(body)
	if err != nil {
		return nil, err
	}
	return doc, checkType(doc.Root(), "Parameters")
}

// simpleValue is the one value[x] of a parameter, when it is a primitive.
func simpleValue(parameter fhir.Node) (text string, ok bool) {
	for name, member := range parameter.Members() {
		if !strings.HasPrefix(name, "value") {
			continue
		}
		switch member.Kind() {
		case fhir.String, fhir.Number, fhir.Bool:
			if ok {
				return "", false
			}
			text, ok = member.Text(), true
		default:
			return "", false
		}
	}
	return text, ok
}
