package fhirpath

import (
	"encoding/base64"
	"encoding/hex"
	"html"
	"regexp"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	json "github.com/go-json-experiment/json"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// text is the only item of a collection, which must be a string. ok is false
// for an empty collection.
func (e *eval) text(pos int, items []Value) (text string, ok bool, err error) {
	v, ok, err := e.single(pos, items)
	if err != nil || !ok || !v.hasValue() && v.isPrimitive() {
		return "", false, err
	}
	text, ok = v.Text()
	if !ok {
		return "", false, e.fail(pos, "a string was expected, not a %s", v.TypeName())
	}
	return text, true, e.cost(len(text) / charsPerItem)
}

// textFunction makes a function on a string; it is empty where the string or an
// argument is.
func textFunction(min, max int, do func(e *eval, pos int, s string, args []Value) (Value, bool, error)) function {
	return eager(min, max, func(e *eval, pos int, in []Value, lists [][]Value, out []Value) ([]Value, error) {
		s, ok, err := e.text(pos, in)
		if err != nil || !ok {
			return out, err
		}
		args := make([]Value, 0, maxTextArgs)
		for _, list := range lists {
			v, ok, err := e.single(pos, list)
			if err != nil || !ok {
				return out, err
			}
			args = append(args, v.system())
		}
		v, ok, err := do(e, pos, s, args)
		if err != nil || !ok {
			return out, err
		}
		if t, isText := v.ref.(string); isText {
			err = e.sized(t)
		}
		return append(out, v), err
	})
}

const maxTextArgs = 2

// onText makes a function of one string.
func onText(do func(s string) Value) function {
	return textFunction(0, 0, func(_ *eval, _ int, s string, _ []Value) (Value, bool, error) {
		return do(s), true, nil
	})
}

// withText makes a function of a string and a string argument.
func withText(do func(s, arg string) (Value, bool)) function {
	return textFunction(1, 1, func(e *eval, pos int, s string, args []Value) (Value, bool, error) {
		arg, err := e.textArg(pos, args[0])
		if err != nil {
			return Value{}, false, err
		}
		v, ok := do(s, arg)
		return v, ok, nil
	})
}

func (e *eval) textArg(pos int, v Value) (string, error) {
	text, ok := v.Text()
	if !ok {
		return "", e.fail(pos, "a string was expected, not a %s", v.TypeName())
	}
	return text, nil
}

// whether makes a function of two strings that answers with a boolean.
func whether(do func(s, arg string) bool) function {
	return withText(func(s, arg string) (Value, bool) { return Boolean(do(s, arg)), true })
}

// stringFunctions are those of N1 section 5.6, and encode, decode, escape,
// unescape, trim, split, join, lastIndexOf and matchesFull of its successor.
// Places and lengths count characters.
var stringFunctions = map[string]function{
	"startsWith":  whether(strings.HasPrefix),
	"endsWith":    whether(strings.HasSuffix),
	"contains":    whether(strings.Contains),
	"upper":       onText(func(s string) Value { return String(strings.ToUpper(s)) }),
	"lower":       onText(func(s string) Value { return String(strings.ToLower(s)) }),
	"trim":        onText(func(s string) Value { return String(strings.TrimSpace(s)) }),
	"length":      onText(func(s string) Value { return Integer(int64(utf8.RuneCountInString(s))) }),
	"indexOf":     withText(func(s, arg string) (Value, bool) { return charIndex(s, strings.Index(s, arg)), true }),
	"lastIndexOf": withText(func(s, arg string) (Value, bool) { return charIndex(s, strings.LastIndex(s, arg)), true }),
	"substring":   textFunction(1, 2, substring),
	"replace":     textFunction(2, 2, replace),
	"matches":     {1, 1, makeMatches("(?s:", ")")},
	"matchesFull": {1, 1, makeMatches(`(?s:\A(?:`, `)\z)`)},

	"replaceMatches": {2, 2, makeReplaceMatches},

	"encode":   withText(encode),
	"decode":   withText(decode),
	"escape":   withText(escape),
	"unescape": withText(unescape),

	"toChars": eager(0, 0, func(e *eval, pos int, in []Value, _ [][]Value, out []Value) ([]Value, error) {
		s, _, err := e.text(pos, in)
		if err != nil {
			return out, err
		}
		for _, r := range s {
			out = append(out, String(string(r)))
		}
		return out, nil
	}),
	"split": eager(1, 1, func(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
		s, ok, err := e.text(pos, in)
		if err != nil || !ok {
			return out, err
		}
		separator, ok, err := e.text(pos, args[0])
		if err != nil || !ok {
			return out, err
		}
		for part := range strings.SplitSeq(s, separator) {
			out = append(out, String(part))
		}
		return out, nil
	}),
	"join": eager(0, 1, join),
}

// charIndex turns a place in bytes into one in characters.
func charIndex(s string, at int) Value {
	if at < 0 {
		return Integer(-1)
	}
	return Integer(int64(utf8.RuneCountInString(s[:at])))
}

func substring(e *eval, pos int, s string, args []Value) (Value, bool, error) {
	start, ok := args[0].Integer()
	if !ok {
		return Value{}, false, e.fail(pos, "an integer was expected, not a %s", args[0].TypeName())
	}
	length := int64(len(s))
	if len(args) == 2 {
		if length, ok = args[1].Integer(); !ok {
			return Value{}, false, e.fail(pos, "an integer was expected, not a %s", args[1].TypeName())
		}
	}
	chars := []rune(s)
	if start < 0 || start >= int64(len(chars)) {
		return Value{}, false, nil
	}
	chars = chars[start:]
	return String(string(chars[:max(0, min(length, int64(len(chars))))])), true, nil
}

func replace(e *eval, pos int, s string, args []Value) (Value, bool, error) {
	pattern, err := e.textArg(pos, args[0])
	if err != nil {
		return Value{}, false, err
	}
	with, err := e.textArg(pos, args[1])
	if err != nil {
		return Value{}, false, err
	}
	// Counted before it is made, so that a few characters cannot become gigabytes.
	size := len(s) + strings.Count(s, pattern)*max(0, len(with)-len(pattern))
	if size/charsPerItem > e.maxItems {
		return Value{}, false, e.sized(strings.Repeat(" ", (e.maxItems+1)*charsPerItem))
	}
	return String(strings.ReplaceAll(s, pattern, with)), true, nil
}

func join(e *eval, pos int, in []Value, args [][]Value, out []Value) ([]Value, error) {
	separator := ""
	if len(args) == 1 {
		var err error
		if separator, _, err = e.text(pos, args[0]); err != nil {
			return out, err
		}
	}
	if len(in) == 0 {
		return out, nil
	}
	var b strings.Builder
	for i := range in {
		text, ok, err := e.text(pos, in[i:i+1])
		if err != nil {
			return out, err
		}
		if i > 0 {
			b.WriteString(separator)
		}
		if ok {
			b.WriteString(text)
		}
		if b.Len()/charsPerItem > e.maxItems {
			return out, e.sized(b.String())
		}
	}
	return append(out, String(b.String())), e.sized(b.String())
}

func encode(s, format string) (Value, bool) {
	switch format {
	case "base64":
		return String(base64.StdEncoding.EncodeToString([]byte(s))), true
	case "urlbase64":
		return String(base64.URLEncoding.EncodeToString([]byte(s))), true
	case "hex":
		return String(hex.EncodeToString([]byte(s))), true
	}
	return Value{}, false
}

func decode(s, format string) (Value, bool) {
	var b []byte
	var err error
	switch format {
	case "base64":
		b, err = base64.StdEncoding.DecodeString(s)
	case "urlbase64":
		b, err = base64.URLEncoding.DecodeString(s)
	case "hex":
		b, err = hex.DecodeString(s)
	default:
		return Value{}, false
	}
	return String(string(b)), err == nil && utf8.Valid(b)
}

var htmlEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

func escape(s, format string) (Value, bool) {
	switch format {
	case "html":
		return String(htmlEscapes.Replace(s)), true
	case "json":
		quoted := fhir.AppendString(nil, s)
		return String(string(quoted[1 : len(quoted)-1])), true
	}
	return Value{}, false
}

func unescape(s, format string) (Value, bool) {
	switch format {
	case "html":
		return String(html.UnescapeString(s)), true
	case "json":
		var text string
		err := json.Unmarshal([]byte(`"`+quotesEscaped(s)+`"`), &text)
		return String(text), err == nil
	}
	return Value{}, false
}

// quotesEscaped puts a backslash in front of quotes that have none: HL7's tests
// unescape texts with both.
func quotesEscaped(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '"' {
			b.WriteByte('\\')
		}
		b.WriteByte(s[i])
		if s[i] == '\\' && i+1 < len(s) {
			i++
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// maxPattern bounds a regular expression. They are RE2's, whose time is linear
// in the text; look-ahead and back references do not exist.
const maxPattern = 1000

// patterns compiles regular expressions and remembers the last.
type patterns struct {
	before, behind string
	last           atomic.Pointer[pattern]
}

type pattern struct {
	text string
	re   *regexp.Regexp
}

func (p *patterns) compile(text string) (*regexp.Regexp, bool) {
	if last := p.last.Load(); last != nil && last.text == text {
		return last.re, true
	}
	if len(text) > maxPattern {
		return nil, false
	}
	re, err := regexp.Compile(p.before + text + p.behind)
	if err != nil {
		return nil, false
	}
	p.last.Store(&pattern{text, re})
	return re, true
}

// prepare reports a constant pattern that is wrong when the expression is
// compiled.
func (c *compiler) prepare(p *patterns, arg node) error {
	if l, ok := arg.(literal); ok && l.value.kind == kindString {
		if _, ok := p.compile(l.value.ref.(string)); !ok {
			return c.fail(arg.at(), "this is no regular expression (RE2)")
		}
	}
	return nil
}

// pattern compiles a pattern that s is to be matched with.
func (e *eval) pattern(pos int, p *patterns, v Value, s string) (*regexp.Regexp, error) {
	text, err := e.textArg(pos, v)
	if err != nil {
		return nil, err
	}
	if last := p.last.Load(); last == nil || last.text != text {
		if err := e.cost(min(len(text), maxPattern) * patternCost); err != nil {
			return nil, err
		}
	}
	re, ok := p.compile(text)
	if !ok {
		return nil, e.fail(pos, "%q is no regular expression (RE2)", clip(text))
	}
	return re, e.cost(len(s) * len(text) / matchesPerStep)
}

// What patterns count: a character of one may become thousands of states, and
// matching takes time in proportion to the text and to the pattern.
const (
	patternCost    = 200
	matchesPerStep = 10
)

func makeMatches(before, behind string) func(*compiler, call, fn) (fn, error) {
	return func(c *compiler, n call, in fn) (fn, error) {
		p := &patterns{before: before, behind: behind}
		if err := c.prepare(p, n.args[0]); err != nil {
			return nil, err
		}
		return textFunction(1, 1, func(e *eval, pos int, s string, args []Value) (Value, bool, error) {
			re, err := e.pattern(pos, p, args[0], s)
			if err != nil {
				return Value{}, false, err
			}
			return Boolean(re.MatchString(s)), true, nil
		}).make(c, n, in)
	}
}

// groupNumbers finds $1 in a substitution, which Go wants as ${1}.
var groupNumbers = regexp.MustCompile(`\$([0-9]+)`)

func makeReplaceMatches(c *compiler, n call, in fn) (fn, error) {
	p := &patterns{before: "(?s:", behind: ")"}
	if err := c.prepare(p, n.args[0]); err != nil {
		return nil, err
	}
	return textFunction(2, 2, func(e *eval, pos int, s string, args []Value) (Value, bool, error) {
		re, err := e.pattern(pos, p, args[0], s)
		if err != nil {
			return Value{}, false, err
		}
		with, err := e.textArg(pos, args[1])
		if err != nil {
			return Value{}, false, err
		}
		if t, _ := args[0].Text(); t == "" {
			return String(s), true, nil // as HL7's tests have it
		}
		if worst := (len(s) + 1) * (len(with) + 1); worst/charsPerItem > e.maxItems {
			return Value{}, false, e.fail(pos, "the text is too long to replace in")
		}
		return String(re.ReplaceAllString(s, groupNumbers.ReplaceAllString(with, `$${$1}`))), true, nil
	}).make(c, n, in)
}
