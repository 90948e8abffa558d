package terminology

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
)

// book is a Source of a few definitions by canonical.
type book map[string]string

func (b book) Find(resourceType, canonical string) ([]byte, error) {
	if text, ok := b[resourceType+" "+canonical]; ok {
		return []byte(text), nil
	}
	return nil, nil
}

// tree is the code system of the tests: a > b > c, a > d; x is over c too; e
// stands alone.
const tree = `{"resourceType":"CodeSystem","url":"s","content":"complete","concept":[
 {"code":"a","concept":[
  {"code":"b","concept":[{"code":"c","display":"See","property":[{"code":"parent","valueCode":"x"},{"code":"size","valueInteger":3}]}]},
  {"code":"d","property":[{"code":"size","valueInteger":4},{"code":"kind","valueCoding":{"system":"k","code":"round"}}]}]},
 {"code":"x"},{"code":"e"}]}`

func TestMembers(t *testing.T) {
	for compose, want := range map[string]string{
		`"include":[{"system":"s"}]`:                                                                                                            "s|a s|b s|c s|d s|e s|x",
		`"include":[{"system":"s","concept":[{"code":"d"},{"code":"b"}]}]`:                                                                      "s|b s|d",
		`"include":[{"system":"s","filter":[{"property":"concept","op":"is-a","value":"b"}]}]`:                                                  "s|b s|c",
		`"include":[{"system":"s","filter":[{"property":"concept","op":"descendent-of","value":"a"}]}]`:                                         "s|b s|c s|d",
		`"include":[{"system":"s","filter":[{"property":"concept","op":"is-not-a","value":"a"}]}]`:                                              "s|e s|x",
		`"include":[{"system":"s","filter":[{"property":"concept","op":"generalizes","value":"c"}]}]`:                                           "s|a s|b s|c s|x",
		`"include":[{"system":"s","filter":[{"property":"size","op":"=","value":"3"}]}]`:                                                        "s|c",
		`"include":[{"system":"s","filter":[{"property":"kind","op":"=","value":"round"}]}]`:                                                    "s|d",
		`"include":[{"system":"s","filter":[{"property":"size","op":"in","value":"3, 4"}]}]`:                                                    "s|c s|d",
		`"include":[{"system":"s","filter":[{"property":"size","op":"not-in","value":"3"}]}]`:                                                   "s|a s|b s|d s|e s|x",
		`"include":[{"system":"s","filter":[{"property":"size","op":"exists","value":"true"}]}]`:                                                "s|c s|d",
		`"include":[{"system":"s","filter":[{"property":"code","op":"regex","value":"[a-c]"}]}]`:                                                "s|a s|b s|c",
		`"include":[{"system":"s","filter":[{"property":"parent","op":"=","value":"x"}]}]`:                                                      "s|c",
		`"include":[{"system":"s","filter":[{"property":"concept","op":"is-a","value":"a"},{"property":"size","op":"exists","value":"true"}]}]`: "s|c s|d",
		`"include":[{"system":"s"}],"exclude":[{"system":"s","concept":[{"code":"a"}]},{"system":"s","concept":[{"code":"e"}]}]`:                "s|b s|c s|d s|x",
		`"include":[{"valueSet":["two"]}]`:                                                                                                      "other|z s|a",
		`"include":[{"system":"s","valueSet":["two"]}]`:                                                                                         "s|a",
		`"include":[{"valueSet":["two","three"]}]`:                                                                                              "other|z",
		`"include":[{"valueSet":["three"]}]`:                                                                                                    "other|",
		`"include":[{"system":"other"}],"exclude":[{"valueSet":["three"]}]`:                                                                     "",
		`"include":[{"system":"part","concept":[{"code":"p"}]},{"system":"part"}]`:                                                              "part|",
		`"include":[]`: "",
	} {
		source := book{
			"CodeSystem s":    tree,
			"CodeSystem part": `{"content":"fragment","concept":[{"code":"p"}]}`,
			"ValueSet two":    `{"compose":{"include":[{"system":"s","concept":[{"code":"a"}]},{"system":"other","concept":[{"code":"z"}]}]}}`,
			"ValueSet three":  `{"compose":{"include":[{"system":"other"}]}}`,
			"ValueSet one":    `{"compose":{` + compose + `}}`,
		}
		got, err := New(source).Members("one")
		if err != nil || shown(got) != want {
			t.Errorf("%s: %q, %v; want %q", compose, shown(got), err, want)
		}
	}
}

func shown(codings []search.Coding) string {
	texts := make([]string, len(codings))
	for i, c := range codings {
		texts[i] = c.System + "|" + c.Code
	}
	return strings.Join(texts, " ")
}

func TestMembersOfAnExpansion(t *testing.T) {
	source := book{"ValueSet one": `{"expansion":{"contains":[{"system":"s","code":"group","abstract":true,"contains":[{"system":"s","code":"b"}]},{"system":"s","code":"a"}]}}`}
	got, err := New(source).Members("one")
	if err != nil || shown(got) != "s|a s|b" {
		t.Errorf("%q, %v", shown(got), err)
	}
}

func TestMembersRefused(t *testing.T) {
	var many strings.Builder
	for i := range MaxCodings + 1 {
		fmt.Fprintf(&many, `,{"code":"%d"}`, i)
	}
	source := book{
		"CodeSystem s":     tree,
		"ValueSet circle":  `{"compose":{"include":[{"valueSet":["circle"]}]}}`,
		"ValueSet empty":   `{}`,
		"ValueSet many":    `{"compose":{"include":[{"system":"t","concept":[{"code":"x"}` + many.String() + `]}]}}`,
		"ValueSet hollow":  `{"compose":{"include":[{"system":"other"}],"exclude":[{"system":"other","concept":[{"code":"z"}]}]}}`,
		"ValueSet foreign": `{"compose":{"include":[{"system":"other","filter":[{"property":"concept","op":"is-a","value":"z"}]}]}}`,
		"ValueSet op":      `{"compose":{"include":[{"system":"s","filter":[{"property":"concept","op":"resembles","value":"a"}]}]}}`,
		"ValueSet regex":   `{"compose":{"include":[{"system":"s","filter":[{"property":"code","op":"regex","value":"("}]}]}}`,
	}
	for valueSet, kind := range map[string]fault.Kind{
		"absent": fault.Invalid, "circle": fault.TooCostly, "empty": fault.Invalid, "many": fault.TooCostly,
		"hollow": fault.NotSupported, "foreign": fault.NotSupported, "op": fault.NotSupported, "regex": fault.Invalid,
	} {
		if got, err := New(source).Members(valueSet); !fault.Is(err, kind) {
			t.Errorf("%s: %q, %v; want %v", valueSet, shown(got), err, kind)
		}
	}
}

func TestHierarchy(t *testing.T) {
	terms := New(book{"CodeSystem s": tree, "CodeSystem ring": `{"concept":[
	 {"code":"p","property":[{"code":"child","valueCode":"q"}]},{"code":"q","property":[{"code":"child","valueCode":"p"}]}]}`})
	for _, c := range []struct {
		of           search.Coding
		below, above string
	}{
		{search.Coding{System: "s", Code: "a"}, "s|a s|b s|c s|d", "s|a"},
		{search.Coding{System: "s", Code: "c"}, "s|c", "s|a s|b s|c s|x"},
		{search.Coding{System: "s", Code: "unknown"}, "s|unknown", "s|unknown"},
		{search.Coding{System: "ring", Code: "p"}, "ring|p ring|q", "ring|p ring|q"},
	} {
		below, err := terms.Below(c.of)
		if err != nil || shown(below) != c.below {
			t.Errorf("below %v: %q, %v", c.of, shown(below), err)
		}
		above, err := terms.Above(c.of)
		if err != nil || shown(above) != c.above {
			t.Errorf("above %v: %q, %v", c.of, shown(above), err)
		}
	}
	for of, kind := range map[search.Coding]fault.Kind{{Code: "a"}: fault.Invalid, {System: "s"}: fault.Invalid, {System: "absent", Code: "a"}: fault.NotSupported} {
		if _, err := terms.Below(of); !fault.Is(err, kind) {
			t.Errorf("%v: %v, want %v", of, err, kind)
		}
	}
}

// elsewhere are value sets of R4 that include some that R4 does not ship: states
// of the USPS, modalities of DICOM.
var elsewhere = map[string]bool{"http://hl7.org/fhir/ValueSet/use-context": true, "http://hl7.org/fhir/ValueSet/media-modality": true}

// TestShipped expands every value set of R4. What cannot be expanded needs the
// hierarchy of a code system that belongs to others.
func TestShipped(t *testing.T) {
	all, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	expanded, refused := 0, 0
	for key := range all {
		if key.resourceType != typeValueSet {
			continue
		}
		switch _, err := New(nil).Members(key.url); {
		case err == nil:
			expanded++
		case fault.Is(err, fault.NotSupported), elsewhere[key.url]:
			refused++
		default:
			t.Errorf("%s: %v", key.url, err)
		}
	}
	if expanded < 1100 || refused > 120 {
		t.Errorf("%d value sets expanded, %d refused", expanded, refused)
	}
	status, err := New(nil).Members("http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1")
	if err != nil || shown(status) != "http://hl7.org/fhir/administrative-gender|female http://hl7.org/fhir/administrative-gender|male http://hl7.org/fhir/administrative-gender|other http://hl7.org/fhir/administrative-gender|unknown" {
		t.Errorf("%q, %v", shown(status), err)
	}
	if _, err := New(nil).Members("http://hl7.org/fhir/ValueSet/administrative-gender|3.0.1"); !fault.Is(err, fault.Invalid) {
		t.Errorf("another version: %v", err)
	}
}

// FuzzMembers reads any pair of definitions: it may refuse, never break.
func FuzzMembers(f *testing.F) {
	f.Add(`{"compose":{"include":[{"system":"s","filter":[{"property":"concept","op":"is-a","value":"b"}]}]}}`, tree)
	f.Add(`{"expansion":{"contains":[{"system":"s","code":"a"}]}}`, `{"content":"fragment"}`)
	f.Fuzz(func(t *testing.T, valueSet, system string) {
		terms := New(book{"ValueSet v": valueSet, "CodeSystem s": system})
		codings, err := terms.Members("v")
		if err == nil && len(codings) > MaxCodings+1000 {
			t.Errorf("%d codings", len(codings))
		}
		_, _ = terms.Below(search.Coding{System: "s", Code: "a"}) // refusals are fine here
	})
}
