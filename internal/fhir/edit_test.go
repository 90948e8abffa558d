package fhir_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

func TestApply(t *testing.T) {
	b := func(s string) []byte { return []byte(s) }
	type doc = fhir.Node
	for _, tt := range []struct {
		what, in string
		edits    func(root doc) []fhir.Edit
		want     string
	}{
		{"nothing", ` {"a" : 1.10 } `, func(doc) []fhir.Edit { return nil }, ` {"a" : 1.10 } `},
		{"replace", ` {"a" : 1 , "b":2 } `, func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Get("a"), With: b(`[9]`)}}
		}, ` {"a" : [9] , "b":2 } `},
		{"replace the root", ` 1 `, func(r doc) []fhir.Edit { return []fhir.Edit{{Node: r, With: b(`2`)}} }, ` 2 `},
		{"remove first", "{\n \"a\":1,\n \"b\":2\n}", func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Get("a")}}
		}, "{\n \"b\":2\n}"},
		{"remove last", "{\n \"a\":1,\n \"b\":2\n}", func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Get("b")}}
		}, "{\n \"a\":1\n}"},
		{"remove two of four", `[1,2,3,4]`, func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Index(2)}, {Node: r.Index(1)}}
		}, `[1,4]`},
		{"remove all", `{"a":[1, 2 ],"b":{"c":1}}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Get("a").Index(0)}, {Node: r.Get("a").Index(1)}, {Node: r.Get("b").Get("c")}}
		}, `{"a":[ ],"b":{}}`},
		{"set what is there", `{"a":1}`, func(r doc) []fhir.Edit { return []fhir.Edit{fhir.Set(r, "a", b(`2`))} }, `{"a":2}`},
		{"set what is not", `{"a":1}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{fhir.Set(r, "b", b(`2`)), fhir.SetFirst(r, "z\"", b(`0`)), fhir.Set(r, "c", b(`3`))}
		}, `{"z\"":0,"a":1,"b":2,"c":3}`},
		{"set in the empty", `{}`, func(r doc) []fhir.Edit { return []fhir.Edit{fhir.Set(r, "b", b(`2`))} }, `{"b":2}`},
		{"remove all and set", `{"a":1,"b":2}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Get("a")}, {Node: r.Get("b")}, fhir.Set(r, "c", b(`3`))}
		}, `{"c":3}`},
		{"append", `[ 1 ]`, func(r doc) []fhir.Edit { return []fhir.Edit{fhir.Append(r, b(`2`)), fhir.Append(r, b(`3`))} }, `[ 1,2,3 ]`},
		{"before", `[1,2]`, func(r doc) []fhir.Edit {
			return []fhir.Edit{fhir.Before(r.Index(1), b(`"x"`)), fhir.Before(r.Index(0), b(`"y"`)), fhir.Before(r.Index(1), b(`"z"`))}
		}, `["y",1,"x","z",2]`},
		{"before what goes", `[1,2]`, func(r doc) []fhir.Edit {
			return []fhir.Edit{fhir.Before(r.Index(0), b(`0`)), {Node: r.Index(0)}}
		}, `[0,2]`},
		{"before a container that changes", `[{"a":1}]`, func(r doc) []fhir.Edit {
			return []fhir.Edit{fhir.Before(r.Index(0), b(`0`)), fhir.Set(r.Index(0), "b", b(`2`))}
		}, `[0,{"a":1,"b":2}]`},
		{"member before", `{"a":1,"b":2}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{fhir.SetBefore(r.Get("b"), "x", b(`0`))}
		}, `{"a":1,"x":0,"b":2}`},
		{"deep and outer together", `{"a":{"b":[1,{"c":2}]},"d":3}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{
				{Node: r.Get("a").Get("b").Index(1).Get("c"), With: b(`"deep"`)},
				{Node: r.Get("a").Get("b").Index(0)}, {Node: r.Get("d"), With: b(`4`)},
			}
		}, `{"a":{"b":[{"c":"deep"}]},"d":4}`},
		{"below what goes", `{"a":{"b":1},"c":1}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Get("a").Get("b"), With: b(`2`)}, {Node: r.Get("a")}}
		}, `{"c":1}`},
		{"below what is replaced", `{"a":{"b":1},"c":1}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Get("a").Get("b")}, {Node: r.Get("a"), With: b(`0`)}, fhir.Set(r.Get("a"), "x", b(`1`))}
		}, `{"a":0,"c":1}`},
		{"twice", `{"a":1}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{{Node: r.Get("a")}, {Node: r.Get("a"), With: b(`5`)}}
		}, `{"a":5}`},
		{"what does not fit", `{"a":1,"b":[1]}`, func(r doc) []fhir.Edit {
			return []fhir.Edit{
				{Node: r}, {Node: r.Get("none")}, {}, fhir.Set(r.Get("a"), "x", b(`1`)), fhir.Set(r.Get("b"), "x", b(`1`)),
				fhir.Append(r, b(`1`)), fhir.Append(r.Get("a"), b(`1`)), fhir.Before(r.Get("a"), b(`1`)), fhir.Before(r, b(`1`)),
				fhir.SetBefore(r.Get("b").Index(0), "x", b(`1`)), fhir.Append(r.Get("b"), nil),
				{Node: mustParse(t, `{"b":7}`).Root().Get("b")},
			}
		}, `{"a":1,"b":[1]}`},
	} {
		d := mustParse(t, tt.in)
		if got := string(fhir.Apply(d, tt.edits(d.Root()))); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.what, got, tt.want)
		}
	}
}

// tree is the plain twin of a document under edits.
type tree struct {
	name string // with quotes, of a member
	text string // of a scalar
	kind fhir.Kind
	kids []*tree
}

func grow(n fhir.Node, index map[int32]*tree) *tree {
	t := &tree{kind: n.Kind()}
	if n.IsMember() {
		t.name = string(fhir.AppendString(nil, n.Name())) + ":"
	}
	if n.Len() == 0 {
		t.text = string(fhir.Compact(n.Raw()))
	}
	for c := range n.Children() {
		t.kids = append(t.kids, grow(c, index))
	}
	index[n.Ref()] = t
	return t
}

func (t *tree) print(b *bytes.Buffer) {
	b.WriteString(t.name)
	if t.kind != fhir.Object && t.kind != fhir.Array {
		b.WriteString(t.text)
		return
	}
	brackets := "{}"
	if t.kind == fhir.Array {
		brackets = "[]"
	}
	b.WriteByte(brackets[0])
	for k, c := range t.kids {
		if k > 0 {
			b.WriteByte(',')
		}
		c.print(b)
	}
	b.WriteByte(brackets[1])
}

func (t *tree) indexOf(c *tree) int {
	for k, kid := range t.kids {
		if kid == c {
			return k
		}
	}
	return -1
}

// editAndTwin makes one edit of the document and the same one of the twin.
// Each node is edited once, so that the order of edits does not matter.
func editAndTwin(n fhir.Node, what int, index map[int32]*tree) (fhir.Edit, func()) {
	self, parent := index[n.Ref()], index[n.Parent().Ref()]
	added := &tree{kind: fhir.Number, text: "0"}
	switch isRoot := n.Ref() == 0; {
	case what == 0:
		return fhir.Edit{Node: n, With: []byte("0")}, func() { *self = tree{name: self.name, kind: fhir.Number, text: "0"} }
	case what == 1 && !isRoot:
		return fhir.Edit{Node: n}, func() {
			k := parent.indexOf(self)
			parent.kids = append(parent.kids[:k:k], parent.kids[k+1:]...)
		}
	case what == 2 && n.Kind() == fhir.Array:
		return fhir.Append(n, []byte("0")), func() { self.kids = append(self.kids, added) }
	case what == 3 && n.Kind() == fhir.Object && !n.Get("new").Exists():
		added.name = `"new":`
		return fhir.SetFirst(n, "new", []byte("0")), func() { self.kids = append([]*tree{added}, self.kids...) }
	case what == 4 && n.Parent().Kind() == fhir.Array:
		return fhir.Before(n, []byte("0")), func() {
			k := parent.indexOf(self)
			parent.kids = append(parent.kids[:k:k], append([]*tree{added}, parent.kids[k:]...)...)
		}
	}
	return fhir.Edit{}, func() {}
}

// checkEdits applies a choice of edits to document and twin and compares.
func checkEdits(t rapid.TB, d *fhir.Document, choice []byte) {
	index := map[int32]*tree{}
	root := grow(d.Root(), index)
	var edits []fhir.Edit
	var twins []func()
	for k, what := range choice {
		if n := d.At(int32(k)); n.Exists() {
			e, twin := editAndTwin(n, int(what)%7, index)
			edits, twins = append(edits, e), append(twins, twin)
		}
	}
	// Innermost first, so that what is below a replaced node is done and gone.
	for k := len(twins) - 1; k >= 0; k-- {
		twins[k]()
	}
	var want bytes.Buffer
	root.print(&want)
	out := fhir.Apply(d, edits)
	parsed, err := fhir.Parse(out)
	if err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	index = map[int32]*tree{}
	var got bytes.Buffer
	grow(parsed.Root(), index).print(&got)
	if got.String() != want.String() {
		t.Fatalf("edited\n%s\nwant\n%s", got.String(), want.String())
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte(`{"a":[1,{"b":2},3],"c":{}}`), []byte{5, 1, 2, 3, 4, 1, 0, 1})
	f.Add([]byte(` { "a" : [ 1 , { "b" : 2 } , 3 ] , "c" : { } } `), []byte{3, 2, 1, 1, 1, 4, 3})
	f.Add([]byte(`[1,2,3,4,5]`), []byte{2, 1, 1, 4, 1, 1})
	f.Fuzz(func(t *testing.T, src, choice []byte) {
		d, err := fhir.Parse(src)
		if err != nil {
			return
		}
		if got := fhir.Apply(d, nil); !bytes.Equal(got, src) {
			t.Fatalf("no edits change %s to %s", src, got)
		}
		checkEdits(t, d, choice)
	})
}

// jsonText draws a JSON text with white space in odd places.
func jsonText(t *rapid.T, depth int) string {
	space := rapid.SampledFrom([]string{"", "", " ", "\n"})
	join := func(open, shut string, item func(i int) string) string {
		out := open + space.Draw(t, "space")
		for i := range rapid.IntRange(0, 4).Draw(t, "count") {
			if i > 0 {
				out += "," + space.Draw(t, "space")
			}
			out += item(i) + space.Draw(t, "space")
		}
		return out + shut
	}
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	switch {
	case kind < 2 && depth > 0:
		return join("[", "]", func(int) string { return jsonText(t, depth-1) })
	case kind < 4 && depth > 0:
		return join("{", "}", func(i int) string {
			return `"` + string(rune('a'+i)) + `"` + space.Draw(t, "space") + ":" + jsonText(t, depth-1)
		})
	}
	return rapid.SampledFrom([]string{`1.10`, `"x"`, `"a,b\"]"`, `null`, `true`, `1e3`}).Draw(t, "scalar")
}

func TestApplyAgreesWithATree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, err := fhir.Parse([]byte(jsonText(t, 4)))
		if err != nil {
			t.Fatal(err)
		}
		checkEdits(t, d, rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "choice"))
	})
}
