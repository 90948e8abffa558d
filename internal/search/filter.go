package search

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A filter is the value of _filter (http://hl7.org/fhir/R4/search_filter.html):
//
//	filter = operand { ("and" | "or") operand }      left to right, without precedence
//	operand = test | ["not"] "(" filter ")"
//	test   = path SP operator SP value
//	path   = name { ["[" filter "]"] "." name }
//	value  = JSON string | characters up to white space, ")" or "]"
//
// readFilter reads it; filtercond.go says what it means of a type.
type filter interface{ filter() }

// filterLogic is all of its parts, or with or any of them.
type filterLogic struct {
	or    bool
	parts []filter
}

// filterNot is what its filter is not.
type filterNot struct{ of filter }

// filterTest is one comparison.
type filterTest struct {
	path  []filterStep
	op    string
	value string
}

// filterStep is one name of a path; where, when not nil, narrows what it leads to.
type filterStep struct {
	name  string
	where filter
}

func (filterLogic) filter() {}
func (filterNot) filter()   {}
func (filterTest) filter()  {}

// Bounds of a filter.
const (
	// MaxFilterTests is how many comparisons a filter may have.
	MaxFilterTests = 256
	// MaxFilterDepth is how deep parentheses and brackets may nest.
	MaxFilterDepth = 16
)

// readFilter reads a filter; wrong, when not empty, says what is wrong with it.
func readFilter(text string) (f filter, wrong string) {
	r := &filterReader{text: text}
	f = r.logic()
	if r.space(); r.wrong == "" && r.at < len(text) {
		r.fail("and, or or the end is expected")
	}
	return f, r.wrong
}

// filterReader reads from a text; once something is wrong it reads on without
// meaning.
type filterReader struct {
	text         string
	at           int
	tests, depth int
	wrong        string
}

// fail keeps the first thing that is wrong, and ends the reading.
func (r *filterReader) fail(detail string) {
	if r.wrong == "" {
		r.wrong = fmt.Sprintf("%s at character %d, before %q", detail, utf8.RuneCountInString(r.text[:r.at])+1, cut(r.text[r.at:], maxFilterExcerpt))
	}
	r.at = len(r.text)
}

// maxFilterExcerpt is how many bytes of a filter a message shows.
const maxFilterExcerpt = 20

func (r *filterReader) space() (some bool) {
	for r.at < len(r.text) {
		c, n := utf8.DecodeRuneInString(r.text[r.at:])
		if !unicode.IsSpace(c) {
			break
		}
		r.at, some = r.at+n, true
	}
	return some
}

// next takes a character, if it stands there behind white space.
func (r *filterReader) next(c byte) bool {
	r.space()
	if r.at == len(r.text) || r.text[r.at] != c {
		return false
	}
	r.at++
	return true
}

func isNameStart(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_'
}

// name reads a name, "" where there is none.
func (r *filterReader) name() string {
	r.space()
	start := r.at
	for r.at < len(r.text) {
		c := r.text[r.at]
		if !isNameStart(c) && (r.at == start || c != '-' && (c < '0' || '9' < c)) {
			break
		}
		r.at++
	}
	return r.text[start:r.at]
}

// word takes a word of the language, in either case.
func (r *filterReader) word(words ...string) string {
	before := r.at
	name := strings.ToLower(r.name())
	for _, word := range words {
		if name == word {
			return word
		}
	}
	r.at = before
	return ""
}

// logic reads operands with and and or between them. Left to right: what was
// read so far is the first part of what comes.
func (r *filterReader) logic() filter {
	if r.depth++; r.depth > MaxFilterDepth {
		r.fail(fmt.Sprintf("more than %d filters are nested", MaxFilterDepth))
		return nil
	}
	defer func() { r.depth-- }()
	left := r.operand()
	for r.wrong == "" {
		word := r.word("and", "or")
		if word == "" {
			break
		}
		left = joined(left, word == "or", r.operand())
	}
	return left
}

func joined(left filter, or bool, right filter) filter {
	if same, ok := left.(filterLogic); ok && same.or == or {
		same.parts = append(same.parts, right)
		return same
	}
	return filterLogic{or, []filter{left, right}}
}

func (r *filterReader) operand() filter {
	if r.next('(') {
		return r.enclosed(')')
	}
	if before := r.at; r.word("not") != "" {
		if r.next('(') {
			return filterNot{r.enclosed(')')}
		}
		r.at = before
		r.fail("not stands only before parentheses, as in not (active eq false),")
		return nil
	}
	return r.test()
}

// enclosed reads a filter up to the character that closes it.
func (r *filterReader) enclosed(end byte) filter {
	of := r.logic()
	if r.wrong == "" && !r.next(end) {
		r.fail(fmt.Sprintf("%q is expected", end))
	}
	return of
}

func (r *filterReader) test() filter {
	if r.tests++; r.tests > MaxFilterTests {
		r.fail(fmt.Sprintf("there are more than %d comparisons", MaxFilterTests))
		return nil
	}
	t := filterTest{path: r.path()}
	if r.wrong != "" {
		return nil
	}
	before := r.at
	if t.op = strings.ToLower(r.name()); !filterOps[t.op] {
		r.at = before
		r.fail("an operator (eq ne co sw ew gt lt ge le ap sa eb pr po ss sb in ni re) is expected")
		return nil
	}
	if !r.space() {
		r.fail("a blank and a value are expected")
		return nil
	}
	t.value = r.value()
	return t
}

// path reads names with dots between them, and filters in brackets before dots.
func (r *filterReader) path() []filterStep {
	var path []filterStep
	for r.wrong == "" {
		step := filterStep{name: r.name()}
		if step.name == "" {
			r.fail("the name of a search parameter is expected")
			break
		}
		bracket := r.at < len(r.text) && r.text[r.at] == '['
		if bracket {
			r.at++
			step.where = r.enclosed(']')
		}
		path = append(path, step)
		if r.at < len(r.text) && r.text[r.at] == '.' {
			r.at++
			continue
		}
		if bracket && r.wrong == "" {
			r.fail("behind brackets a dot and a name are expected")
		}
		break
	}
	return path
}

func (r *filterReader) value() string {
	if r.at < len(r.text) && r.text[r.at] == '"' {
		return r.quoted()
	}
	start := r.at
	for r.at < len(r.text) {
		c, n := utf8.DecodeRuneInString(r.text[r.at:])
		if c == ')' || c == ']' || unicode.IsSpace(c) {
			break
		}
		r.at += n
	}
	value := r.text[start:r.at]
	if value == "" {
		r.fail("a value is expected")
	}
	if offset := lostOffset.FindString(r.text[r.at:]); offset != "" && wholeTime.MatchString(value) {
		r.at += len(offset)
		value += "+" + offset[1:]
	}
	return value
}

// A + that URL decoding made a blank: 2024-01-01T00:00:00 01:00.
var (
	wholeTime  = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?$`)
	lostOffset = regexp.MustCompile(`^ \d\d:\d\d\b`)
)

// quoted reads a JSON string.
func (r *filterReader) quoted() string {
	end := r.at + 1
	for end < len(r.text) && r.text[end] != '"' {
		if r.text[end] == '\\' {
			end++
		}
		end++
	}
	var value string
	if end >= len(r.text) || json.Unmarshal([]byte(r.text[r.at:end+1]), &value) != nil {
		r.fail("a JSON string in double quotes is expected")
		return ""
	}
	if r.at = end + 1; value == "" {
		r.fail("a value that is not empty is expected")
	}
	return value
}

// filterOps are the operators.
var filterOps = map[string]bool{
	"eq": true, "ne": true, "co": true, "sw": true, "ew": true, "gt": true, "lt": true, "ge": true, "le": true,
	"ap": true, "sa": true, "eb": true, "pr": true, "po": true, "ss": true, "sb": true, "in": true, "ni": true, "re": true,
}
