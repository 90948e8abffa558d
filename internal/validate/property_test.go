package validate

import (
	"context"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// mutated is how many examples the properties look at, and tries how often each.
const (
	mutated = 120
	tries   = 6
)

// sampleExamples gives some of HL7's examples that are valid and not huge.
func sampleExamples(t *testing.T) [][]byte {
	t.Helper()
	var all [][]byte
	examples(t, func(name string, src []byte) bool {
		if _, faulty := faultyExamples[name[strings.LastIndexByte(name, '/')+1:]]; !faulty && len(src) < 64<<10 {
			all = append(all, src)
		}
		return true
	})
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:mutated]
}

// typed is a node with the shape that judged it.
type typed struct {
	node  fhir.Node
	shape *shape
}

// objects lists the objects of a valid resource with their shapes, found by the
// tables but not by the walk.
func objects(v *Validator, n fhir.Node) []typed {
	id, _ := r4.TypeByName(n.ResourceType())
	var all []typed
	var descend func(s *shape, n fhir.Node)
	descend = func(s *shape, n fhir.Node) {
		all = append(all, typed{n, s})
		for _, c := range n.Members() {
			sl := s.find(c)
			for item := range c.Items() {
				switch {
				case sl == nil || item.Kind() != fhir.Object:
				case sl.form == formResource:
					all = append(all, objects(v, item)...)
				case sl.shape != nil:
					descend(sl.shape, item)
				}
			}
		}
	}
	descend(v.resourceShape(id), n)
	return all
}

// Taking a required element away from a valid resource is found where it was.
func TestMissingElementsAreFound(t *testing.T) {
	v, random, found := New(Options{}), rand.New(rand.NewPCG(3, 4)), 0
	for _, src := range sampleExamples(t) {
		d := mustParse(t, src)
		all := objects(v, d.Root())
		for range tries {
			at := all[random.IntN(len(all))]
			for bit, e := range at.shape.bits {
				if at.shape.required&(1<<bit) != 0 {
					found++
					checkMissing(t, v, d, at, uint8(bit), e)
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d elements were taken away", found)
	}
}

func checkMissing(t *testing.T, v *Validator, d *fhir.Document, at typed, bit uint8, e *r4.ElementInfo) {
	t.Helper()
	var edits []fhir.Edit
	for _, c := range at.node.Members() {
		if sl := at.shape.find(c); sl != nil && sl.bit == bit {
			edits = append(edits, fhir.Edit{Node: c})
		}
	}
	src := fhir.Apply(d, edits)
	code := "Element '" + e.Path + "': minimum required = 1"
	if len(at.node.Path()) > 0 && at.node.Len() == len(edits) {
		code = "Object must have some content"
	}
	for _, i := range v.Validate(context.Background(), mustParse(t, src).Root(), StructureOnly) {
		if i.Expression == at.node.Path() && strings.Contains(i.Detail, code) {
			return
		}
	}
	t.Errorf("%s: %s was taken from %s and not missed", d.ResourceType(), e.Path, at.node.Path())
}

func mustParse(t testing.TB, src []byte) *fhir.Document {
	t.Helper()
	d, err := fhir.Parse(src)
	if err != nil {
		t.Fatalf("%v\n%.300s", err, src)
	}
	return d
}

// What a formula says of an object, FHIRPath says too, and the rules that never
// reach FHIRPath are decided as FHIRPath decides. Members are taken away at
// random, so that invariants break.
func TestFormulasAgreeWithFHIRPath(t *testing.T) {
	v, random := New(Options{BestPractice: true}), rand.New(rand.NewPCG(5, 6))
	seen := map[truth]int{}
	for _, src := range sampleExamples(t) {
		d := mustParse(t, src)
		for range tries {
			all := objects(v, d.Root())
			at := all[random.IntN(len(all))]
			for _, at := range all {
				checkFormulas(t, v, at, d.Root(), seen)
			}
			if at.node.Len() < 2 {
				continue
			}
			victim := at.node.Document().At(at.node.Ref() + 1)
			for _, c := range at.node.Members() {
				if random.IntN(3) == 0 && c.Name() != "resourceType" {
					victim = c
				}
			}
			if victim.Name() == "resourceType" {
				continue
			}
			d = mustParse(t, fhir.Apply(d, []fhir.Edit{{Node: victim}}))
		}
	}
	if seen[yes] < 1000 || seen[no] < 20 {
		t.Errorf("formulas said yes %d times and no %d times: too few to mean anything", seen[yes], seen[no])
	}
}

func checkFormulas(t *testing.T, v *Validator, at typed, root fhir.Node, seen map[truth]int) {
	t.Helper()
	if at.node.Len() == 0 {
		return
	}
	var members uint64
	for _, c := range at.node.Members() {
		if sl := at.shape.find(c); sl != nil {
			members |= 1 << sl.bit
		}
	}
	for _, r := range at.shape.rules {
		said := r.formula.eval(members, at.node)
		if said == unknown {
			continue
		}
		seen[said]++
		c, err := FHIRPath().Compile(r.invariant.Expression)
		if err != nil {
			t.Fatal(r.invariant.Key, err)
		}
		resource := at.node
		for resource.Parent().Exists() && resource.ResourceType() == "" {
			resource = resource.Parent()
		}
		broken, err := c.Broken(Focus{Value: at.node, Type: at.shape.name, Resource: resource, Root: root})
		if err != nil || broken != (said == no) {
			t.Errorf("%s at %s: the formula says %v, FHIRPath broken=%v, %v", r.invariant.Key, at.node.Path(), said, broken, err)
		}
	}
}

// Every type compiles, and every invariant with it.
func TestEveryTypeCompiles(t *testing.T) {
	v := New(Options{BestPractice: true})
	for _, id := range r4.ResourceTypes() {
		s := v.resourceShape(id)
		for i := range s.slots {
			if got := s.named(s.slots[i].name.String()); got != &s.slots[i] {
				t.Errorf("%s.%s stands twice", s.name, s.slots[i].name)
			}
		}
	}
	for name, s := range v.shapes {
		for _, rules := range append([][]rule{s.rules}, slotRules(s)...) {
			for _, r := range rules {
				if r.err != nil {
					t.Errorf("%s: %s does not compile: %v", name, r.invariant.Key, r.err)
				}
			}
		}
	}
}

func slotRules(s *shape) [][]rule {
	var all [][]rule
	for i := range s.slots {
		all = append(all, s.slots[i].rules)
	}
	return all
}

// The formats in code are R4's regular expressions, but for what DESIGN.md says.
func TestFormatsAreR4s(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	seeds := []string{
		"2020-02-29", "1999", "2020-12", "2020-02-30", "2016-12-31T23:59:60Z", "2020-01-01T10:00:00.123+02:00", "10:20:30.5",
		"urn:oid:1.2.840.0.11", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "a-b.c", "en us", "http://example.org/a?b#c", "0", "-12",
		"YWJj ZGVm", "a+/=", "2020-01-01T10:00:00-14:00", "2020-01-01T10:00:00+14:30", "0001-01-01", "x y  z",
	}
	const alphabet = "0123456789-:.TZ+ abzurnoid/=\t"
	accepted := map[string]int{}
	for name, p := range primitives {
		structure, _ := r4.StructureOf(name)
		if structure.Regex == "" || p.jsonKind() != fhir.String {
			continue
		}
		format := regexp.MustCompile("^(" + structure.Regex + ")$")
		for i := range 6000 {
			text := []byte(seeds[i%len(seeds)])
			for range random.IntN(4) {
				text[random.IntN(len(text))] = alphabet[random.IntN(len(alphabet))]
			}
			n := mustParse(t, []byte(`"`+strings.ReplaceAll(string(text), "\t", `\t`)+`"`)).Root()
			ours := p.fault(n, n.TextBytes()) == ""
			if theirs := format.Match(text); ours != theirs && !knownDifference(name, string(text), ours) {
				t.Errorf("%s %q: we say %v, R4 %v", name, text, ours, theirs)
			} else if ours {
				accepted[name]++
			}
		}
		if accepted[name] < 20 {
			t.Errorf("%s: only %d values were accepted", name, accepted[name])
		}
	}
}

// knownDifference is what DESIGN.md, "Formats", names: days that do not exist,
// and base64 that is none or breaks its lines anywhere.
func knownDifference(name, text string, ours bool) bool {
	switch name {
	case "base64Binary":
		return true
	case "date", "dateTime", "instant":
		return !ours && len(text) >= len("2020-02-30")
	}
	return false
}

// The type of a reference is the one package fhir finds.
func TestTargetTypes(t *testing.T) {
	for _, text := range []string{
		"Patient/1", "Patient/1/_history/2", "http://example.org/fhir/Patient/1", "http://example.org/Patient/1/_history/3",
		"Patient/1#a", "#a", "#", "urn:uuid:c757873d-ec9a-4326-a141-556f43239520", "urn:oid:1.2.3", "http://loinc.org",
		"http://example.org/ValueSet/x|1", "Patient", "Patient/", "/1", "a b", "", "https://example.org/a/b/c/Observation/o-1.2",
	} {
		want := fhir.ParseReference(text).Type
		if _, known := r4.TypeByName(want); !known || strings.Contains(text, "|") {
			want = ""
		}
		got := string(targetType([]byte(text)))
		if _, known := r4.TypeByName(got); !known {
			got = ""
		}
		if got != want {
			t.Errorf("%q: type %q, want %q", text, got, want)
		}
	}
}

func TestIssuesAreBounded(t *testing.T) {
	src := `{"resourceType": "Patient", "name": [` + strings.TrimSuffix(strings.Repeat(`{"x": 1},`, 5000), ",") + `]}`
	issues := New(Options{}).Validate(context.Background(), mustParse(t, []byte(src)).Root(), StructureOnly)
	if len(issues) != MaxIssues || issues[MaxIssues-1].Code != codeTooMany || !Refused(issues) {
		t.Errorf("%d issues, the last %v", len(issues), issues[len(issues)-1])
	}
}

// A list that warnings have filled is still refused for an error behind them.
func TestErrorsBehindWarningsCount(t *testing.T) {
	entry := `{"resource": {"resourceType": "ValueSet", "status": "draft", "name": "my set"}},`
	src := `{"resourceType": "Bundle", "entry": [` + strings.Repeat(entry, 150) + `{"x": 1}], "type": "collection"}`
	issues := New(Options{}).Validate(context.Background(), mustParse(t, []byte(src)).Root(), StructureOnly)
	if !Refused(issues) || len(issues) != MaxIssues {
		t.Errorf("%d issues, refused: %v", len(issues), Refused(issues))
	}
	if err := Refusal("test", issues); !fault.Is(err, fault.Invalid) {
		t.Errorf("refusal %v", err)
	}
	if err := Refusal("test", issues[:1]); err != nil {
		t.Errorf("a warning is refused: %v", err)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	issues := New(Options{}).Validate(ctx, mustParse(t, []byte(`{"resourceType": "Patient"}`)).Root(), Strict)
	if len(issues) != 1 || issues[0].Kind != fault.Canceled || !Refused(issues) {
		t.Errorf("issues %v", issues)
	}
}

func TestLevels(t *testing.T) {
	for _, word := range []string{"minimal", "structure-only", "strict"} {
		if level, err := ParseLevel(word); err != nil || level.String() != word {
			t.Errorf("%s: %v, %v", word, level, err)
		}
	}
	if level, err := ParseLevel(""); err != nil || level != Strict {
		t.Errorf("nothing said: %v, %v", level, err)
	}
	if _, err := ParseLevel("Strict"); !fault.Is(err, fault.Invalid) {
		t.Errorf("a word of no level: %v", err)
	}
}

func TestBestPractice(t *testing.T) {
	d := mustParse(t, []byte(`{"resourceType": "Patient"}`))
	issues := New(Options{BestPractice: true}).Validate(context.Background(), d.Root(), StructureOnly)
	if len(issues) != 1 || issues[0].Severity != fault.SeverityWarning || !strings.Contains(issues[0].Detail, "dom-6") {
		t.Errorf("issues %v", issues)
	}
}

// Types are compiled at first use by whoever comes first.
func TestConcurrentUse(t *testing.T) {
	v := New(Options{})
	sources := sampleExamples(t)[:24]
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, src := range sources {
				d, err := fhir.Parse(src)
				if err != nil {
					t.Error(err)
					return
				}
				if issues := v.Validate(context.Background(), d.Root(), StructureOnly); Refused(issues) {
					t.Errorf("%s: %v", d.ResourceType(), issues)
				}
			}
		})
	}
	all.Wait()
}
