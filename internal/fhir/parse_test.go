package fhir_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

func mustParse(t testing.TB, text string) *fhir.Document {
	t.Helper()
	d, err := fhir.Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%.200s): %v", text, err)
	}
	return d
}

// accepted and refused are texts on the border of the grammar; they also seed
// the fuzz targets.
var accepted = []string{
	`{}`, `[]`, `""`, `0`, `-0`, `-0.0e+00`, `1.10`, `1e3`, `0.0000001`, `1E400`, `true`, `false`, `null`,
	" \t\r\n{ \"a\" : [ 1 , { } , [ ] ] } \n",
	`{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}`,
	`"\"\\\/\b\f\n\r\t\u0000\u00e9\ud83d\ude00"`, `"é 漢字 😀"`, `"12345678"`, `"1234567"`, `"123456789"`,
	`{"":1}`, `{"a":1,"A":2}`, `{"\u0061":1,"b":2}`, `["\u0061","a"]`,
	`{"resourceType":"Patient","id":"x","active":true}`,
}

var refused = []struct{ text, why string }{
	{``, "ends early"}, {` `, "ends early"}, {`{`, "member name"}, {`[`, "ends early"}, {`[1`, "is open"},
	{`{"a"`, "colon"}, {`{"a":`, "ends early"}, {`{"a":1`, "is open"}, {`{"a":1,`, "member name"},
	{`{"a":1,}`, "member name"}, {`[1,]`, "a value"}, {`[,1]`, "a value"}, {`{,}`, "member name"},
	{`[1 2]`, "comma or ]"}, {`{"a":1 "b":2}`, "comma or }"}, {`[1}`, "comma or ]"}, {`{"a":1]`, "comma or }"},
	{`{a:1}`, "member name"}, {`{"a" 1}`, "colon"}, {`{1:1}`, "member name"},
	{`{} {}`, "behind the end"}, {`1 1`, "behind the end"}, {`]`, "a value"}, {`{}]`, "behind the end"},
	{`01`, "zeros"}, {`-`, "digit"}, {`-01`, "zeros"}, {`1.`, "point"}, {`.5`, "a value"}, {`1.e3`, "point"}, {`1e`, "exponent"},
	{`1e+`, "exponent"}, {`+1`, "a value"}, {`0x1`, "behind the end"}, {`NaN`, "a value"}, {`tru`, "a value"}, {`True`, "a value"},
	{`nul`, "a value"}, {`'a'`, "a value"}, {`/**/1`, "a value"},
	{`"`, "inside a string"}, {`"abcdefghij`, "inside a string"}, {`"\"`, "inside a string"}, {`"\x"`, "no such escape"},
	{`"\u12"`, "no such escape"}, {`"\u12g4"`, "no such escape"}, {`"\`, "no such escape"},
	{"\"a\nb\"", "control character"}, {"\"12345678\x00\"", "control character"}, {"\"\x1f\"", "control character"},
	{`"\ud800"`, "half a surrogate"}, {`"\udc00"`, "half a surrogate"}, {`"\ud800\ud800"`, "half a surrogate"},
	{`"\udc00\udc00"`, "half a surrogate"}, {`"\ud800\ue000"`, "half a surrogate"}, {`"\ud800\u0041"`, "half a surrogate"},
	{`"\ud800x"`, "half a surrogate"}, {`{"\ud800":1}`, "half a surrogate"},
	{"\"\xff\"", "not UTF-8"}, {"\"12345678\xc3\"", "not UTF-8"}, {"\"\xed\xa0\x80\"", "not UTF-8"},
	{"\"\xc0\xaf\"", "not UTF-8"}, {"{\"\xff\":1}", "not UTF-8"}, {"\xff", "a value"},
	{"\xef\xbb\xbf{}", "byte order mark"},
	{`{"a":1,"a":1}`, "given twice"}, {`{"a":1,"\u0061":1}`, "given twice"}, {`{"\u0061":1,"\u0061":1}`, "given twice"},
	{`{"id":1,"\u0069d":1}`, "given twice"}, {`{"é":1,"\u00e9":1}`, "given twice"}, {`{"x":{"b":1,"c":2,"b":3}}`, "given twice"},
	{`{"":1,"":2}`, "given twice"}, {manyMembers(200) + `,"m7":1}`, "given twice"}, {manyMembers(200) + `,"\u006d7":1}`, "given twice"},
}

// manyMembers is an object of n members, without its closing bracket.
func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"m%d":%d`, i, i)
	}
	return "{" + b.String()[1:]
}

func TestParseAccepts(t *testing.T) {
	for _, text := range append(accepted, manyMembers(500)+"}") {
		d := mustParse(t, text)
		if got := string(d.Root().Raw()); got != strings.Trim(text, " \t\r\n") {
			t.Errorf("Parse(%q) holds %q", text, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range refused {
		d, err := fhir.Parse([]byte(tt.text))
		if err == nil {
			t.Errorf("Parse(%q) = %s, want an error", tt.text, d.Root().Raw())
			continue
		}
		e := fault.From(err)
		if e.Kind != fault.Syntax || !strings.Contains(e.Detail, tt.why) || len(e.Place) != 1 {
			t.Errorf("Parse(%q): %+v, want Syntax with %q and one place", tt.text, e, tt.why)
		}
	}
}

func TestParseNamesTheLineAndColumn(t *testing.T) {
	for _, tt := range []struct {
		text      string
		line, col int
	}{
		{"{\n  \"a\": x\n}", 2, 8},
		{"{\n  \"é漢\": x\n}", 2, 9},
		{"{\r\n\"a\":1,\r\n\"a\":2}", 3, 1},
		{"[1,\n2", 2, 2},
		{"\"ab\xff\"", 1, 4},
		{"\"0123456789\\ud800\"", 1, 12},
	} {
		_, err := fhir.Parse([]byte(tt.text))
		if p := fault.From(err).Place[0]; p.Line != tt.line || p.Col != tt.col {
			t.Errorf("Parse(%q) at %d:%d, want %d:%d", tt.text, p.Line, p.Col, tt.line, tt.col)
		}
	}
}

func TestParseKeepsItsBounds(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct {
		name, text string
		limits     fhir.Limits
		want       fault.Kind
	}{
		{"bytes", `[1,2]`, fhir.Limits{MaxBytes: 4}, fault.TooLarge},
		{"depth", deep(11), fhir.Limits{MaxDepth: 10}, fault.Syntax},
		{"depth of objects", `{"a":{"a":1}}`, fhir.Limits{MaxDepth: 1}, fault.Syntax},
		{"default depth", deep(20_000), fhir.Limits{}, fault.Syntax},
		{"values", `[1,2,3]`, fhir.Limits{MaxNodes: 3}, fault.TooLarge},
	} {
		if _, err := fhir.ParseLimits([]byte(tt.text), tt.limits); !fault.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	for _, l := range []fhir.Limits{{MaxBytes: 20}, {MaxDepth: 10}, {MaxNodes: 10}, {}} {
		if _, err := fhir.ParseLimits([]byte(deep(10)), l); err != nil {
			t.Errorf("%+v refuses what just fits: %v", l, err)
		}
	}
	// Closing a container gives its depth back.
	if _, err := fhir.ParseLimits([]byte(`[[],[],[{},{}],[[]]]`), fhir.Limits{MaxDepth: 3}); err != nil {
		t.Error(err)
	}
}

func TestReleasedTapesAreReused(t *testing.T) {
	src := []byte(`{"resourceType":"Patient","name":[{"given":["A","B"]}]}`)
	allocs := testing.AllocsPerRun(200, func() {
		d, err := fhir.Parse(src)
		if err != nil {
			t.Fatal(err)
		}
		d.Release()
	})
	if allocs > 0.5 { // the pool may be emptied by a collection in between
		t.Errorf("%.1f allocations per Parse with Release, want 0", allocs)
	}
}

// strictly is the oracle: jsontext with its defaults, which are RFC 7493's. It
// gives the deepest nesting.
func strictly(src []byte) (depth int, err error) {
	dec := jsontext.NewDecoder(bytes.NewReader(src))
	values := 0
	for {
		tok, err := dec.ReadToken()
		if err == io.EOF {
			if values != 1 {
				return depth, fmt.Errorf("%d values", values)
			}
			return depth, nil
		}
		if err != nil {
			return depth, err
		}
		depth = max(depth, dec.StackDepth())
		if dec.StackDepth() == 0 && tok.Kind() != '}' && tok.Kind() != ']' || dec.StackDepth() == 1 && (tok.Kind() == '{' || tok.Kind() == '[') {
			values++
		}
	}
}

// compare walks the document beside the oracle's tokens.
func compare(t *testing.T, d *fhir.Document) {
	t.Helper()
	dec := jsontext.NewDecoder(bytes.NewReader(d.Bytes()))
	var walk func(n fhir.Node)
	next := func() jsontext.Token {
		tok, err := dec.ReadToken()
		if err != nil {
			t.Fatal(err)
		}
		return tok
	}
	walk = func(n fhir.Node) {
		tok := next()
		switch n.Kind() {
		case fhir.Object:
			for name, c := range n.Members() {
				if got := next().String(); got != name {
					t.Fatalf("member %q, want %q", name, got)
				}
				if n.Get(name) != c || c.Parent() != n {
					t.Fatalf("member %q is not found again", name)
				}
				walk(c)
			}
			next()
		case fhir.Array:
			for c := range n.Items() {
				walk(c)
			}
			next()
		default:
			if got := tok.String(); n.Kind() != fhir.Null && got != n.Text() {
				t.Fatalf("value %q, want %q", n.Text(), got)
			}
		}
	}
	walk(d.Root())
}

func FuzzParse(f *testing.F) {
	for _, text := range accepted {
		f.Add([]byte(text))
	}
	for _, tt := range refused {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := fhir.Parse(src)
		depth, want := strictly(src)
		if depth > fhir.DefaultLimits.MaxDepth {
			return
		}
		if (err == nil) != (want == nil) {
			t.Fatalf("Parse: %v, the oracle: %v", err, want)
		}
		if err != nil {
			return
		}
		compare(t, d)
		pretty := fhir.AppendPretty(nil, src)
		if got, want := fhir.Compact(pretty), fhir.Compact(src); !bytes.Equal(got, want) {
			t.Fatalf("pretty and back: %s, want %s", got, want)
		}
		again := mustParse(t, string(pretty))
		if again.NodeCount() != d.NodeCount() {
			t.Fatalf("pretty has %d values, want %d", again.NodeCount(), d.NodeCount())
		}
		d.Release()
	})
}
