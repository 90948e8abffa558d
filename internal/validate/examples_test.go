package validate

import (
	"context"
	"path"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// faultyExamples are those of HL7's examples that break R4 themselves, each
// with its issues and the reason. All others must be without error.
var faultyExamples = map[string]struct {
	issues int
	first  string
	why    string
}{
	"ig-r4.json": {
		2, "Element 'ImplementationGuide.name': minimum required = 1, but only found 0",
		"name and status became required in R4 and the example was not brought along",
	},
	"ImplementationGuide-fhir.json": {
		2, "Element 'ImplementationGuide.name': minimum required = 1, but only found 0",
		"the same resource under its id",
	},
	"Questionnaire-qs1.json": {
		32, "Element 'Questionnaire.item.linkId': minimum required = 1, but only found 0",
		"display items have no linkId, which R4 requires of every item",
	},
	"Questionnaire-zika-virus-exposure-assessment.json": {
		1, "Rule txt-2", "the narrative is an empty <pre>",
	},
	"ActivityDefinition-blood-tubes-supply.json": {
		1, "Rule txt-2", "the narrative is an empty <div>",
	},
	"Observation-clinical-gender.json": {
		1, "Found Encounter, but expected one of (Practitioner, ",
		"performer holds what belongs into encounter",
	},
	"DeviceMetric-example.json": {
		1, "Found DeviceDefinition, but expected one of (Device)",
		"parent allows Device only",
	},
}

func TestExamplesAreValid(t *testing.T) {
	v, n := New(Options{}), 0
	examples(t, func(name string, src []byte) bool {
		n++
		d, err := fhir.Parse(src)
		if err != nil {
			t.Fatal(name, err)
		}
		name = path.Base(name)
		errors := onlyErrors(v.Validate(context.Background(), d.Root(), StructureOnly))
		want, faulty := faultyExamples[name]
		switch {
		case len(errors) != want.issues:
			t.Errorf("%s: %d errors, want %d: %v", name, len(errors), want.issues, errors)
		case faulty && !strings.Contains(errors[0].Detail, want.first):
			t.Errorf("%s: %s, want %q", name, line(errors[0]), want.first)
		}
		return true
	})
	if n < leastExamples {
		t.Errorf("%d examples, want %d", n, leastExamples)
	}
}

// onlyErrors drops warnings; an information that a rule could not be evaluated
// is kept, since that must not happen to an example.
func onlyErrors(issues []fault.Issue) []fault.Issue {
	var kept []fault.Issue
	for _, i := range issues {
		if i.Severity != fault.SeverityWarning {
			kept = append(kept, i)
		}
	}
	return kept
}
