package storetest

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// A random history reads back as it was written.
func TestScriptsReadBack(t *testing.T) {
	for seed := range uint64(20) {
		steps := generate(seed, 200)
		text := scriptText(steps)
		back, err := parseScript(text)
		mustNot(t, "parseScript", err)
		if len(back) != len(steps) {
			t.Fatalf("seed %d: %d steps became %d", seed, len(steps), len(back))
		}
		for i := range steps {
			if got, want := back[i].do.String(), steps[i].do.String(); got != want {
				t.Fatalf("seed %d: %s\nreads back as\n%s", seed, want, got)
			}
		}
		if again := scriptText(back); again != text {
			t.Fatalf("seed %d: the text changed", seed)
		}
	}
}

func TestNodesReadBack(t *testing.T) {
	for _, text := range []string{
		`true`, `name=ann`, `name=""`, `name="\xff\x00"`, `subject=@Patient/a`, `name="@x"`, `name="-"`,
		`range(birth, -, -)`, `range(birth, a, b, 3, "-", -)`, `contains(name, x)`, `ids()`, `ids(a, "b c")`,
		`and()`, `or()`, `and(true, or(name=a, not(name=b)))`, `updated(-, +1.5s)`, `created(+0s, -)`,
		`chain(subject&member, Patient: name=a, Group)`, `has(subject, none)`,
	} {
		tokens, err := tokenize(text)
		mustNot(t, text, err)
		p := &parser{tokens: tokens}
		node := p.node(maxNesting)
		mustNot(t, text, p.end())
		if got := nodeText(node); got != text {
			t.Errorf("%s reads back as %s", text, got)
		}
	}
}

func TestBrokenScripts(t *testing.T) {
	for _, text := range []string{
		"-> answer to nothing", "nonsense", "put", "put Patient", "put Nobody/a", "put Patient/a name", "put Patient/a name=",
		"put Patient/a nobody=x", "put Patient/a if", "put Patient/a if sometimes", "put Patient/a if version x",
		"put Patient/a body \"", "put Patient/a tag 256", "put Patient/a name=\"x\"*99999999", "search", "search Patient:",
		"search Patient | sort", "search Patient | sort nobody", "search Patient | limit", "search Patient | total maybe",
		"search Patient: and(", "search Patient: sometimes()", "search Patient extra", "history", "history types", "clock x",
		"get Patient/a v0", "commit\n  get Patient/a", "put Patient/a\n  put Patient/b", "follow | keep", "{",
		"search Patient: " + strings.Repeat("not(", 200) + "true" + strings.Repeat(")", 200),
	} {
		if steps, err := parseScript(text); err == nil {
			t.Errorf("%q reads as %q", text, scriptText(steps))
		}
	}
}

func TestScenarios(t *testing.T) {
	scenarios, err := parseScenarios("comment\n\n=== one\nput Patient/a\n\n=== two\nget Patient/a\n-> x\n")
	mustNot(t, "parseScenarios", err)
	if len(scenarios) != 2 || scenarios[1].name != "two" || scenarios[0].steps[0].line != 4 || scenarios[1].steps[0].line != 7 {
		t.Errorf("read as %+v", scenarios)
	}
	for _, text := range []string{"", "put Patient/a", "=== no answer\nget Patient/a"} {
		if _, err := parseScenarios(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

// A self hash stands wherever a value may.
func TestResolve(t *testing.T) {
	hash := plan.HashKey{1}
	self := hash.Self(patient("a"))
	mark, want := []byte(selfMark+"Patient/a"), self[:]
	term := func(v []byte) plan.Node { return plan.Term{Param: 1, Value: v} }
	nest := func(v []byte) []plan.Arm {
		return []plan.Arm{{Type: 1, Where: plan.And{term(v), plan.Or{plan.Not{Of: term(v)}}, plan.Range{Low: v, High: v},
			plan.Chain{To: []plan.Arm{{Where: term(v)}}}, plan.Has{From: []plan.Arm{{Where: term(v)}}}, plan.IDs{IDs: []string{"x"}}}}}
	}
	if got := resolveArms(nest(mark), hash); !reflect.DeepEqual(got, nest(want)) {
		t.Errorf("resolved to %v", got)
	}
}

func TestBodyText(t *testing.T) {
	for _, size := range []int{0, 1, 5000} {
		b := body(7, size)
		if size > 0 && len(b) < size {
			t.Errorf("a body of %d bytes has %d", size, len(b))
		}
		if got := bodyText(b); strings.Contains(got, `"`) {
			t.Errorf("body(7, %d) shows as %s", size, got)
		}
		b[len(b)-1] ^= 1
		if got := bodyText(b); size > 0 && !strings.Contains(got, `"`) {
			t.Errorf("a spoiled body of %d bytes shows as %s", size, got)
		}
	}
}

func TestShrink(t *testing.T) {
	steps := generate(3, 120)
	wanted := func(steps []step) bool { // fails with a reopen after a clock
		clock := slices.IndexFunc(steps, func(s step) bool { _, ok := s.do.(moveClock); return ok })
		return clock >= 0 && slices.ContainsFunc(steps[clock:], func(s step) bool { _, ok := s.do.(reopen); return ok })
	}
	if !wanted(steps) {
		t.Fatal("the history has no reopen after a clock")
	}
	if got := shrink(steps, time.Now().Add(time.Minute), wanted); len(got) != 2 {
		t.Errorf("%d steps are left:\n%s", len(got), scriptText(got))
	}
	commit := []step{{do: commitOps{[]opText{{pad: 1}, {pad: 2}, {pad: 3}}}}}
	two := func(steps []step) bool {
		ops, ok := opsOf(steps[0].do)
		return ok && slices.ContainsFunc(ops, func(o opText) bool { return o.pad == 2 })
	}
	if ops, _ := opsOf(shrink(commit, time.Now().Add(time.Minute), func(s []step) bool { return len(s) > 0 && two(s) })[0].do); len(ops) != 1 {
		t.Errorf("%d operations are left of a commit", len(ops))
	}
}

func FuzzScript(f *testing.F) {
	files, err := filepath.Glob("testdata/*.test")
	if err != nil || len(files) == 0 {
		f.Fatal("no examples", err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, line := range strings.Split(string(text), "\n") {
			f.Add(line)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		steps, err := parseScript(text)
		if err != nil {
			return
		}
		written := scriptText(steps)
		back, err := parseScript(written)
		if err != nil {
			t.Fatalf("%q was written as %q: %v", text, written, err)
		}
		if again := scriptText(back); again != written {
			t.Fatalf("%q became %q, then %q", text, written, again)
		}
	})
}
