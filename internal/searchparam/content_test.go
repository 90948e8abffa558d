package searchparam

import (
	"slices"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

const contentResource = `{"resourceType":"DiagnosticReport","id":"x","status":"final",
	"text":{"status":"generated","div":"<div class=\"boxed\">Bone <b>marrow</b></div>"},
	"contained":[{"resourceType":"Observation","id":"o","valueString":"Enclosed nodule"}],
	"code":{"text":"Biopsy"},"conclusion":"Müller said: no metastases, no tumour; no.",
	"extension":[{"url":"http://example.org/x","valueString":"extended"}],
	"presentedForm":[{"data":"U2VjcmV0","title":"Scan"}]}`

// _content finds every word of a resource where it is chosen, and is refused
// where it is not.
func TestContent(t *testing.T) {
	with := NewRegistry(WithContent)
	for words, want := range map[string]bool{
		"marrow": true, "nodule": true, "biopsy": true, "MULLER": true, "extended": true, "scan": true,
		"tumour AND bone": true, "tumour NOT bone": false, "U2VjcmV0": false, "boxed": false, "nothing": false,
		"DiagnosticReport": false, "metas": false,
	} {
		if found := findContent(t, with, words); found != want {
			t.Errorf("_content=%s: found %t, want %t", words, found, want)
		}
	}
	key, root := parsed(t, contentResource)
	q, err := search.Parse(NewRegistry(), []plan.Type{key.Type}, []search.Pair{{Name: "_content", Value: "x"}}, search.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Compile(search.Env{Registry: NewRegistry(), Grant: search.Everything()}); !fault.Is(err, fault.NotSupported) {
		t.Errorf("without the option, and without bodies: %v", err)
	}
	bare, err := NewExtractor(NewRegistry(), plan.HashKey{}, ownBase).Extract(key, root)
	if err != nil {
		t.Fatal(err)
	}
	column := contentColumn(t, with, key.Type)
	if slices.ContainsFunc(bare, func(e plan.Entry) bool { return e.Param == column }) {
		t.Error("words are kept without the option")
	}
}

func contentColumn(t *testing.T, r *Registry, typ plan.Type) plan.Param {
	t.Helper()
	p, ok := r.Param(typ, codeContent)
	if !ok {
		t.Fatal("no _content")
	}
	return p.At(search.Main)
}

func findContent(t *testing.T, r *Registry, words string) bool {
	t.Helper()
	key, root := parsed(t, contentResource)
	entries, err := NewExtractor(r, plan.HashKey{}, ownBase).Extract(key, root)
	if err != nil {
		t.Fatal(err)
	}
	q, err := search.Parse(r, []plan.Type{key.Type}, []search.Pair{{Name: "_content", Value: words}}, search.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := q.Compile(search.Env{Registry: r, Grant: search.Everything()})
	if err != nil {
		t.Fatal(err)
	}
	one := memory.Candidate{Key: key, Entries: entries}
	return memory.NewWorld(plan.HashKey{}, []memory.Candidate{one}).Matches(p.Arms, one)
}

// Of more words than are kept, the first are, and a warning says so.
func TestContentBound(t *testing.T) {
	var b strings.Builder
	for i := range search.MaxWords + 10 {
		b.WriteString(" w")
		for ; i > 0; i /= 10 {
			b.WriteByte(byte('a' + i%10))
		}
	}
	key, root := parsed(t, `{"resourceType":"Basic","code":{"text":"`+b.String()+`"}}`)
	r := NewRegistry(WithContent)
	entries, issues, err := NewExtractor(r, plan.HashKey{}, ownBase).Inspect(key, root)
	if err != nil || len(issues) != 1 {
		t.Errorf("issues %v, %v", issues, err)
	}
	column, kept := contentColumn(t, r, key.Type), 0
	for _, e := range entries {
		if e.Param == column {
			kept++
		}
	}
	if kept != search.MaxWords {
		t.Errorf("%d words are kept, not %d", kept, search.MaxWords)
	}
}
