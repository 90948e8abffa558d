package fhir_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

const patient = `{
  "resourceType": "Patient", "id": "p1", "active": true, "deceasedBoolean": false,
  "name": [{"family": "Ni\u00f1o", "given": ["Ana", "B\"c"]}, {"text": "x"}],
  "_birthDate": {"extension": [{"url": "u", "valueDecimal": 1.10}]},
  "odd name": [null, 12, -3.0], "od\\d": {"a` + "`" + `b": 1}, "multipleBirthInteger": 2
}`

func TestNodesAnswer(t *testing.T) {
	root := mustParse(t, patient).Root()
	name := root.Get("name")
	for _, tt := range []struct {
		node fhir.Node
		kind fhir.Kind
		name string
		text string
		raw  string
		path string
	}{
		{root.Get("id"), fhir.String, "id", "p1", `"p1"`, "Patient.id"},
		{root.Get("active"), fhir.Bool, "active", "true", "true", "Patient.active"},
		{name.Index(0).Get("family"), fhir.String, "family", "Niño", `"Ni\u00f1o"`, "Patient.name[0].family"},
		{name.Index(0).Get("given").Index(1), fhir.String, "", `B"c`, `"B\"c"`, "Patient.name[0].given[1]"},
		{name.Index(1), fhir.Object, "", "", `{"text": "x"}`, "Patient.name[1]"},
		{root.Get("_birthDate").Get("extension").Index(0).Get("valueDecimal"), fhir.Number, "valueDecimal", "1.10", "1.10",
			"Patient.birthDate.extension[0].valueDecimal"},
		{root.Get("odd name").Index(0), fhir.Null, "", "", "null", "Patient.`odd name`[0]"},
		{root.Get(`od\d`).Get("a`b"), fhir.Number, "a`b", "1", "1", "Patient.`od\\\\d`.`a\\`b`"},
		{root.Get("nothing"), fhir.Absent, "", "", "", ""},
		{root.Get("nothing").Get("more").Index(3), fhir.Absent, "", "", "", ""},
		{name.Index(2), fhir.Absent, "", "", "", ""},
		{name.Index(-1), fhir.Absent, "", "", "", ""},
		{name.Get("given"), fhir.Absent, "", "", "", ""},
	} {
		n := tt.node
		if n.Kind() != tt.kind || n.Name() != tt.name || n.Text() != tt.text || string(n.Raw()) != tt.raw || n.Path() != tt.path {
			t.Errorf("got %v %q %q %q %q\nwant %+v", n.Kind(), n.Name(), n.Text(), n.Raw(), n.Path(), tt)
		}
	}
	if root.Path() != "Patient" || root.Name() != "" || root.Len() != 9 || name.Len() != 2 {
		t.Errorf("root: %q %q %d %d", root.Path(), root.Name(), root.Len(), name.Len())
	}
}

func TestPathWithoutAResourceType(t *testing.T) {
	d := mustParse(t, `[{"op":"add"},{"path":"/x"}]`)
	if got := d.Root().Index(1).Get("path").Path(); got != "[1].path" {
		t.Error(got)
	}
	d = mustParse(t, `{"entry":[{"resource":{"resourceType":"Patient","id":"x"}}]}`)
	if got := d.Root().Get("entry").Index(0).Get("resource").Get("id").Path(); got != "entry[0].resource.id" {
		t.Error(got)
	}
}

func TestTheZeroNodeAnswersEverything(t *testing.T) {
	var n fhir.Node
	line, col := n.Position()
	v, isInt := n.Int()
	if n.Kind() != fhir.Absent || n.Exists() || n.Name() != "" || n.NameID() != 0 || n.Get("x").Exists() || n.GetName(1).Exists() ||
		n.Index(0).Exists() || n.Len() != 0 || n.Text() != "" || n.TextBytes() != nil || n.Bool() || n.Is("") || n.Raw() != nil ||
		n.Offset() != 0 || line != 0 || col != 0 || n.Path() != "" || n.Document() != nil || n.Parent().Exists() || n.Ref() != -1 ||
		n.ResourceType() != "" || v != 0 || isInt || n.IsMember() {
		t.Error("the zero Node is not absent")
	}
	for range n.Items() {
		t.Error("the zero Node has items")
	}
	for range n.Members() {
		t.Error("the zero Node has members")
	}
	for range n.Children() {
		t.Error("the zero Node has children")
	}
	for range n.Descendants() {
		t.Error("the zero Node has descendants")
	}
}

func TestWalks(t *testing.T) {
	root := mustParse(t, `{"a":[1,{"b":2}],"c":3}`).Root()
	paths := func(seq func(func(fhir.Node) bool)) string {
		var all []string
		for n := range seq {
			all = append(all, n.Path())
		}
		return strings.Join(all, " ")
	}
	for _, tt := range []struct {
		what string
		seq  func(func(fhir.Node) bool)
		want string
	}{
		{"items of an array", root.Get("a").Items(), "a[0] a[1]"},
		{"items of one value", root.Get("c").Items(), "c"},
		{"items of an object", root.Items(), ""},
		{"children", root.Children(), "a c"},
		{"descendants", root.Descendants(), "a a[0] a[1] a[1].b c"},
		{"descendants of a scalar", root.Get("c").Descendants(), ""},
	} {
		if got := paths(tt.seq); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, got, tt.want)
		}
	}
	for name, n := range root.Members() {
		if name != "a" || n != root.Get("a") {
			t.Errorf("first member %s", name)
		}
		break
	}
}

func TestRefsAndPositions(t *testing.T) {
	d := mustParse(t, "{\n \"é\": \"漢\", \"b\": [1,\n2]}")
	for n := range d.Root().Descendants() {
		if d.At(n.Ref()) != n {
			t.Errorf("%s is not at its own Ref", n.Path())
		}
	}
	if d.At(-1).Exists() || d.At(int32(d.NodeCount())).Exists() {
		t.Error("At outside of the tape")
	}
	line, col := d.Root().Get("b").Position()
	if line != 2 || col != 17 {
		t.Errorf("b at %d:%d", line, col)
	}
	line, col = d.Root().Get("b").Index(1).Position()
	if line != 3 || col != 1 {
		t.Errorf("b[1] at %d:%d", line, col)
	}
}

func TestIntegers(t *testing.T) {
	for text, want := range map[string]bool{"1": true, "-7": true, "1.0": false, "1e3": false, `"1"`: false, "9223372036854775808": false} {
		if _, ok := mustParse(t, text).Root().Int(); ok != want {
			t.Errorf("Int of %s: %v", text, ok)
		}
	}
}

func TestInternedNames(t *testing.T) {
	late := `{"internedLater":1,"\u0069nternedLater2":2}`
	d := mustParse(t, late)
	later, later2 := fhir.Intern("internedLater"), fhir.Intern("internedLater2")
	if later == later2 || later == 0 || fhir.Intern("internedLater") != later || later.String() != "internedLater" {
		t.Fatalf("numbers %d, %d", later, later2)
	}
	for _, d := range []*fhir.Document{d, mustParse(t, late)} {
		if d.Root().GetName(later).Text() != "1" || d.Root().GetName(later2).Text() != "2" {
			t.Error("a member is not found by its number")
		}
	}
	if fhir.LookupName("never interned by anyone") != 0 || fhir.Name(0).String() != "" {
		t.Error("a name nobody interned has a number")
	}
	if got := mustParse(t, late).Root().Get("internedLater2").NameID(); got != later2 {
		t.Errorf("escaped name has number %d, want %d", got, later2)
	}
	if d.Root().GetName(0).Exists() {
		t.Error("GetName(0) finds a member")
	}
}

// The hash of a name leaves out the middle of long ones.
func TestNamesWithOneHashAreTwoNames(t *testing.T) {
	known := fhir.Intern("collision-known-collision")
	d := mustParse(t, `{"collision-other-collision":1,"collision-known-collision":2}`)
	if got := d.Root().GetName(known).Text(); got != "2" {
		t.Errorf("found %q", got)
	}
}

// Interning while others parse: the race detector looks on, and enough names
// are added for the table to grow twice.
func TestInterningBesideParsing(t *testing.T) {
	const each = 3000
	numbers := make([][]fhir.Name, 3)
	var wg sync.WaitGroup
	for g := range numbers {
		wg.Go(func() {
			for i := range each {
				name := fmt.Sprintf("beside%s%d", strings.Repeat("x", i%7), i)
				numbers[g] = append(numbers[g], fhir.Intern(name))
				d, err := fhir.Parse([]byte(`{"` + name + `":1}`))
				if err != nil || d.Root().GetName(numbers[g][i]).Text() != "1" {
					t.Errorf("%s is not found", name)
					return
				}
				d.Release()
			}
		})
	}
	wg.Wait()
	if !slices.Equal(numbers[0], numbers[1]) || !slices.Equal(numbers[0], numbers[2]) {
		t.Error("one name has two numbers")
	}
}

// First and Next go where Children goes, FirstItem and NextItem where Items does.
func TestNextIsChildren(t *testing.T) {
	doc := mustParse(t, `{"a":[1,[2,{"b":[]}],{}],"c":{"d":null,"e":"x\u0041"},"f":[]}`)
	for i := range doc.NodeCount() {
		n := doc.At(int32(i))
		var want, got []int32
		for c := range n.Children() {
			want = append(want, c.Ref())
		}
		for c := n.First(); c.Exists(); c = c.Next() {
			got = append(got, c.Ref())
		}
		if !slices.Equal(got, want) {
			t.Errorf("children of %d: %v, want %v", i, got, want)
		}
		if n.View() != n.Text() {
			t.Errorf("%d: view %q of %q", i, n.View(), n.Text())
		}
		if !n.IsMember() {
			continue
		}
		want, got = nil, nil
		for c := range n.Items() {
			want = append(want, c.Ref())
		}
		for c := n.FirstItem(); c.Exists(); c = c.NextItem() {
			got = append(got, c.Ref())
		}
		if !slices.Equal(got, want) {
			t.Errorf("items of %d: %v, want %v", i, got, want)
		}
	}
	if (fhir.Node{}).First().Exists() || (fhir.Node{}).Next().Exists() || (fhir.Node{}).FirstItem().Exists() || (fhir.Node{}).NextItem().Exists() || doc.Root().Next().Exists() {
		t.Error("something follows nothing")
	}
}
