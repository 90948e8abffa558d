package fhirpath_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
)

func TestErrorsHaveAPlace(t *testing.T) {
	for _, c := range []struct {
		src       string
		kind      fault.Kind
		line, col int
	}{
		{"name.given(", fault.Syntax, 1, 12},
		{"a.b\n  .foo()", fault.Syntax, 2, 4},
		{"'é' + %", fault.Syntax, 1, 8},
		{"a is Unknown", fault.Syntax, 1, 3},
		{"a.slice('x', 'y')", fault.NotSupported, 1, 3},
		{strings.Repeat("(", 1000), fault.Syntax, 1, 129},
		{strings.Repeat("a.", 20_000) + "a", fault.TooLarge, 1, 1},
	} {
		_, err := fhirpath.Compile(c.src)
		e := fault.From(err)
		if err == nil || e.Kind != c.kind || len(e.Place) != 1 {
			t.Errorf("%.40q gives %v", c.src, err)
			continue
		}
		if p := e.Place[0]; p.Line != c.line || p.Col != c.col {
			t.Errorf("%.40q: %s at %d:%d, want %d:%d", c.src, e.Detail, p.Line, p.Col, c.line, c.col)
		}
	}
}

// A tree prints with the brackets it needs and no more.
func TestString(t *testing.T) {
	for src, want := range map[string]string{
		"(a+b)*c - (d)":                    "(a + b) * c - d",
		"a - (b - c) - d":                  "a - (b - c) - d",
		"(a or b) and (c implies d)":       "(a or b) and (c implies d)",
		"-(a.b)[0].c( 'x' ,%`v w`)":        "-a.b[0].subsetOf(%`v w`)",
		"(-a).abs()":                       "(-a).abs()",
		"(a | b).c":                        "(a | b).c",
		"a is FHIR.string and b as code":   "a is FHIR.string and b as code",
		"(a as Quantity).unit":             "(a as Quantity).unit",
		"`div`.`a b`.contains('it\\'s\n')": "`div`.`a b`.contains('it\\'s\\n')",
		"a.sort(-b, c desc)":               "a.sort(-b, c desc)",
		"1 'mg' = 2 days":                  "1 'mg' = 2 days",
		"@2020-01 < @2020T and @T10:30":    "@2020-01 < @2020T and @T10:30",
		"%\"vs-a\" & %'b' & %resource":     "%`vs-a` & %b & %resource",
		"{}.is // a comment\n.as":          "{}.is.as",
		"$this.where($index > $total)":     "$this.where($index > $total)",
	} {
		src = strings.ReplaceAll(src, "c( 'x' ,%`v w`)", "subsetOf(%`v w`)")
		x, err := fhirpath.Compile(src)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		if x.String() != want {
			t.Errorf("%s is printed as %s, want %s", src, x, want)
		}
		if x.Source() != src {
			t.Errorf("the source of %s is %s", src, x.Source())
		}
	}
}

const bundle = `{"resourceType":"Bundle","type":"collection","entry":[
{"fullUrl":"http://a/Patient/1","resource":{"resourceType":"Patient","id":"1","contained":[{"resourceType":"Group","id":"g"}],
"link":[{"other":{"reference":"#g"}},{"other":{"reference":"Patient/2"}}]}},
{"resource":{"resourceType":"Vendor","id":"v","thing":[{"inner":1.50},{"inner":true}]}}]}`

// A root may be any element, and finds its resource by itself.
func TestRoots(t *testing.T) {
	root := mustParse(t, bundle).Root()
	patient := root.Get("entry").Index(0).Get("resource")
	link := patient.Get("link").Index(0)
	for _, c := range []struct {
		root     fhir.Node
		typ, src string
		want     string
	}{
		{link, "Patient.link", "other.reference", "#g"},
		{link, "Patient.link", "%resource.id & %rootResource.id & other.resolve().id", "11g"},
		{link.Get("other"), "Reference", "$this is Reference", "true"},
		{link.Get("other").Get("reference"), "string", "length()", "2"},
		{link.Get("other").Get("reference"), "", "length()", "2"},
		{patient.Get("contained").Index(0), "", "%resource.id & %rootResource.id", "g1"},
		{root, "", "entry.resource.ofType(Patient).link.other.reference", "#g ; Patient/2"},
		{root, "", "Bundle.entry.resource.id", "1 ; v"},
		{root, "", "entry.resource.where(Patient.id = '1').type().name", "Patient"},
		{root, "", "entry.resource.thing.inner", "1.50 ; true"},
		{root, "", "entry.resource.thing.inner.type().name", "Element ; Element"},
		{root, "", "entry[1].resource.descendants().count()", "5"},
		{root, "", "entry.fullUrl.resolve()", ""},
		{fhir.Node{}, "", "id", ""},
		{fhir.Node{}, "", "$this.exists() or %resource.exists()", "false"},
		{link, "NoSuchType", "other.reference", "#g"},
	} {
		got, err := evaluate(c.src, &fhirpath.Env{Type: c.typ}, c.root)
		if err != nil || texts(got) != c.want {
			t.Errorf("%s on a %s gives %q, %v; want %q", c.src, c.typ, texts(got), err, c.want)
		}
	}
}

func TestHooks(t *testing.T) {
	root := mustParse(t, benchPatient).Root()
	other := mustParse(t, `{"resourceType":"Practitioner","id":"1","active":true}`).Root()
	var traced []string
	env := &fhirpath.Env{
		Resolve: func(ref fhirpath.Value) (fhirpath.Value, bool) {
			n, _ := ref.Node()
			return fhirpath.Element(other, ""), n.Get("reference").Is("Practitioner/1")
		},
		MemberOf: func(v fhirpath.Value, set string) (bool, bool) { return v.String() == "male", set == "known" },
		ConformsTo: func(v fhirpath.Value, profile string) (bool, bool) {
			return v.TypeName() == profile, true
		},
		Subsumes: func(a, b fhirpath.Value) (bool, bool) { return a.String() < b.String(), true },
		Trace: func(name string, values []fhirpath.Value) {
			traced = append(traced, name+"="+texts(values))
		},
	}
	for src, want := range map[string]string{
		"generalPractitioner.resolve().active":                               "true",
		"generalPractitioner.first().resolve() is Practitioner":              "true",
		"gender.memberOf('known')":                                           "true",
		"gender.memberOf('other')":                                           "",
		"conformsTo('Patient') and name.first().conformsTo('Patient').not()": "true",
		"'a'.subsumes('b')":                                                  "true",
		"'a'.subsumedBy('b')":                                                "false",
		"name.trace('n', family).trace('m').count()":                         "3",
	} {
		got, err := evaluate(src, env, root)
		if err != nil || texts(got) != want {
			t.Errorf("%s gives %q, %v; want %q", src, texts(got), err, want)
		}
	}
	if len(traced) != 2 || traced[0] != "n=Chalmers ; Windsor" {
		t.Errorf("traced %q", traced)
	}
	asked := 0
	env.ResolveType = func(ref fhir.Node) (string, bool) {
		asked++
		return "Device", true
	}
	got, err := evaluate("generalPractitioner.where(resolve() is Device).count()", env, root)
	if err != nil || texts(got) != "2" || asked != 2 {
		t.Errorf("resolve() is Device gives %q, %v, asked %d times", texts(got), err, asked)
	}
}

func TestClockIsInjected(t *testing.T) {
	if _, err := evaluate("now()", nil, fhir.Node{}); !fault.Is(err, fault.Invalid) {
		t.Errorf("without a clock now() gives %v", err)
	}
}

// What is too costly ends, whatever the expression does.
func TestLimits(t *testing.T) {
	root := mustParse(t, benchPatient).Root()
	env := &fhirpath.Env{Limits: fhirpath.Limits{MaxSteps: 20_000, MaxItems: 2000}}
	nines := strings.Repeat("9", 39)
	for _, src := range []string{
		"descendants().select(%context.descendants().select(%context.descendants()))",
		"descendants().aggregate($total.combine($total).combine($this))",
		"descendants().aggregate($total & $total & 'a')",
		"'a'" + strings.Repeat(".replace('a', 'aaaaaaaaaaaaaaaa')", 10),
		"(1|2|3|4|5|6|7|8|9).select($this|10|11)" + strings.Repeat(".select(%resource.descendants())", 4),
		"('" + strings.Repeat("x", 1000) + "')" + strings.Repeat(".select($this & $this)", 12),
		"'" + nines + "'.replaceMatches('9', '" + strings.Repeat("8", 9000) + "')",
	} {
		_, err := evaluate(src, env, root)
		if !fault.Is(err, fault.TooCostly) && !fault.Is(err, fault.Invalid) {
			t.Errorf("%.60s gives %v", src, err)
		}
	}
}

func TestTruth(t *testing.T) {
	root := mustParse(t, benchPatient).Root()
	for _, c := range []struct {
		src          string
		holds, known bool
	}{
		{"active", true, true}, {"active.not()", false, true}, {"name.suffix", false, false}, {"gender", true, true},
	} {
		x := fhirpath.MustCompile(c.src)
		holds, known, err := x.Truth(nil, fhirpath.Element(root, ""))
		if err != nil || holds != c.holds || known != c.known {
			t.Errorf("%s: %v, %v, %v", c.src, holds, known, err)
		}
		if b, err := x.Bool(nil, root); b != c.holds || err != nil {
			t.Errorf("%s: %v, %v", c.src, b, err)
		}
	}
	if _, err := fhirpath.MustCompile("name").Bool(nil, root); !fault.Is(err, fault.Invalid) {
		t.Errorf("three names are %v", err)
	}
}

func TestValues(t *testing.T) {
	root := mustParse(t, `{"resourceType":"Observation","status":"final","effectiveDateTime":"2020-05",
"valueQuantity":{"value":1.50,"system":"http://unitsofmeasure.org","code":"mg"},
"component":[{"valueInteger":3},{"valueBoolean":true}]}`).Root()
	one := func(src string) fhirpath.Value {
		got, err := evaluate(src, nil, root)
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v, %v", src, got, err)
		}
		return got[0]
	}
	if n, ok := one("value").Node(); !ok || n.Path() != "Observation.valueQuantity" {
		t.Errorf("the node is %s", n.Path())
	}
	if q, ok := one("value").Quantity(); !ok || q.String() != "1.50 'mg'" {
		t.Errorf("the quantity is %s", q)
	}
	if iv, ok := one("effective").Interval(); !ok || iv.High-iv.Low != 31*24*3600_000 {
		t.Errorf("the interval is %v", iv)
	}
	if _, ok := one("status").Interval(); ok {
		t.Error("a code is no interval")
	}
	if i, ok := one("component.value.ofType(integer)").Integer(); !ok || i != 3 {
		t.Errorf("the integer is %d", i)
	}
	if d, ok := one("value.value").Decimal(); !ok || d.String() != "1.50" {
		t.Errorf("the decimal is %s", d)
	}
	if b, ok := one("component.value.ofType(boolean)").Bool(); !ok || !b {
		t.Error("the boolean is false")
	}
	if s, ok := one("status").Text(); !ok || s != "final" {
		t.Errorf("the text is %s", s)
	}
	for src, want := range map[string]string{
		"status": `"final"`, "value": `{"value":1.50,"system":"http://unitsofmeasure.org","code":"mg"}`, "1.20 + 1": "2.20",
		"2 days": `{"value":2,"unit":"day","system":"http://unitsofmeasure.org","code":"d"}`, "'a\"b'": `"a\"b"`,
		"true": "true", "@2020-05": `"2020-05"`, "3 'g'": `{"value":3,"system":"http://unitsofmeasure.org","code":"g"}`,
	} {
		if got := string(one(src).AppendJSON(nil)); got != want {
			t.Errorf("%s in JSON is %s, want %s", src, got, want)
		}
	}
}

// Check finds what no data can make right.
func TestCheck(t *testing.T) {
	for _, c := range []struct{ typ, src, complaint string }{
		{"Patient", "name.given", ""},
		{"Patient", "Patient.name.given", ""},
		{"Patient", "Resource.id | DomainResource.text.status", ""},
		{"Patient", "Observation.status", "begins at a Patient"},
		{"Patient", "name.givn", "HumanName has no element givn"},
		{"Patient", "name.where(fmily = 'x')", "no element fmily"},
		{"Patient", "name.select(given | famly)", "no element famly"},
		{"Patient", "deceased.exists()", ""},
		{"Patient", "deceasedBoolean", "no element deceasedBoolean"},
		{"Patient", "(deceased as dateTime).value", ""},
		{"Patient", "deceased.ofType(Period).begin", "no element begin"},
		{"Patient", "birthDate.extension('x').value.ofType(Coding).cod", "no element cod"},
		{"Patient", "birthDate.value + 1 day", ""},
		{"Patient", "contained.anything.goes", ""},
		{"Patient", "link.other.resolve().anything", ""},
		{"Patient", "children().first()", "no order"},
		{"Patient", "descendants()[0]", "no order"},
		{"Patient", "contact.repeat(anything)", ""},
		{"Patient", "name.all(given.exists() implies famil.exists())", "no element famil"},
		{"Patient", "iif(true, nam, name)", "no element nam"},
		{"Patient", "-nam", "no element nam"},
		{"Observation.component", "value.ofType(Quantity).unit", ""},
		{"Observation.component", "status", "no element status"},
		{"Questionnaire", "item.item.item.linkId", ""},
		{"", "what.ever", ""},
		{"Vendor", "what.ever", ""},
	} {
		err := fhirpath.MustCompile(c.src).Check(c.typ)
		if (err == nil) != (c.complaint == "") || err != nil && !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%s on %s: %v, want %q", c.src, c.typ, err, c.complaint)
		}
	}
}

func TestNarrative(t *testing.T) {
	const open, end = `<div xmlns="http://www.w3.org/1999/xhtml">`, `</div>`
	x := fhirpath.MustCompile("text.`div`.htmlChecks()")
	for div, want := range map[string]bool{
		open + `<p class="x">a &amp; b&nbsp;<b>c</b></p><table><tr><td colspan="2">x</td></tr></table>` + end: true,
		open + `<img src="a.png" alt="b"/>` + end:                                                             true,
		open + `<a href="http://x">x</a>` + end:                                                               true,
		open + ` ` + end:                                                                                      false,
		open + `<script>alert(1)</script>` + end:                                                              false,
		open + `<p onclick="x()">a</p>` + end:                                                                 false,
		open + `<a href="JavaScript:x()">x</a>` + end:                                                         false,
		open + `<form>a</form>` + end:                                                                         false,
		open + `<svg xmlns="http://www.w3.org/2000/svg">a</svg>` + end:                                        false,
		open + `<p>a` + end:                                                                                   false,
		open + `a` + end + open + `b` + end:                                                                   false,
		`<p xmlns="http://www.w3.org/1999/xhtml">a</p>`:                                                       false,
		`<!DOCTYPE x>` + open + `a` + end:                                                                     false,
		open + strings.Repeat("<div>", 300) + "a" + strings.Repeat("</div>", 300) + end:                       false,
		`text`: false,
	} {
		src := `{"resourceType":"Patient","text":{"div":` + string(fhir.AppendString(nil, div)) + `}}`
		got, err := x.Bool(nil, mustParse(t, src).Root())
		if err != nil || got != want {
			t.Errorf("%.80s: %v, %v", div, got, err)
		}
	}
}

// One expression serves many goroutines and documents of different types.
func TestConcurrency(t *testing.T) {
	x := fhirpath.MustCompile("id | name.where(given = 'Ann' or text.matches('^A')).family | name.trace('t')")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				typ := []string{"Patient", "Organization", "Group"}[(g+i)%3]
				id := fmt.Sprint(g, "-", i)
				d, err := fhir.Parse([]byte(`{"resourceType":"` + typ + `","id":"` + id + `"}`))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := x.Eval(nil, d.Root())
				if err != nil || texts(got) != id {
					t.Errorf("%s gives %q, %v", id, texts(got), err)
				}
				d.Release()
			}
		})
	}
	wg.Wait()
}

func TestDistinctManyItems(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"resourceType":"Bundle","entry":[`)
	const n = 3000
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"fullUrl":"http://a/%d","resource":{"resourceType":"Basic","id":"%d"}}`, i%(n-1), i)
	}
	b.WriteString(`]}`)
	root := mustParse(t, b.String()).Root()
	env := &fhirpath.Env{Limits: fhirpath.Limits{MaxSteps: 20 * n}}
	for src, want := range map[string]string{
		"entry.fullUrl.isDistinct()": "false", "entry.resource.id.isDistinct()": "true",
		"entry.fullUrl.distinct().count()": fmt.Sprint(n - 1), "entry.resource.distinct().count()": fmt.Sprint(n),
	} {
		got, err := evaluate(src, env, root)
		if err != nil || texts(got) != want {
			t.Errorf("%s gives %q, %v", src, texts(got), err)
		}
	}
}
