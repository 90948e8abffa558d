package search

import (
	"strings"
	"unicode"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// WordsValue is what _text asks of a narrative, and _content of all strings (R4
// 3.1.1.4.17): a word, or all,
// any or none of its parts.
type WordsValue struct {
	Op    WordsOp
	Word  string // OneWord: as eachWord gives it
	Parts []WordsValue
}

func (WordsValue) value() {}

// WordsOp is what a WordsValue asks for.
type WordsOp uint8

// The operations on words.
const (
	OneWord WordsOp = iota
	AllWords
	AnyWord
	NoWord
)

// Bounds of words: what is kept of a long one in bytes, how many different ones
// are kept of a resource, and how many a search may name and how deep.
const (
	maxWordBytes  = 64
	MaxWords      = 5_000
	maxAskedWords = 64
	maxWordsDepth = 8
)

// eachWord gives the words of a text: letters and digits that stand together,
// folded.
func eachWord(text string, yield func(word []byte)) {
	var room [maxWordBytes]byte
	start := -1
	for i, r := range text {
		if inWord := unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.M, r); inWord == (start >= 0) {
			continue
		} else if inWord {
			start = i
			continue
		}
		yieldWord(room[:0], text[start:i], yield)
		start = -1
	}
	if start >= 0 {
		yieldWord(room[:0], text[start:], yield)
	}
}

func yieldWord(room []byte, text string, yield func([]byte)) {
	if word := appendFolded(room, text, maxWordBytes); len(word) > 0 {
		yield(word)
	}
}

// Words keeps the words of a text; false when they are too many, and some are
// not kept. The same word may be kept twice until Done.
func (e *Entries) Words(p *Param, text string) bool {
	kept := 0
	eachWord(text, func(word []byte) {
		if kept++; kept > MaxWords {
			return
		}
		from := e.begin()
		e.arena = append(append(e.arena, word...), 0)
		e.keep(p, Main, from)
	})
	return kept <= MaxWords
}

// NewWords keeps the words of a text that no text before had, those that seen does
// not name, and names them there; false when they are more than MaxWords, and
// some are not kept.
func (e *Entries) NewWords(p *Param, text string, seen map[string]bool) bool {
	all := true
	eachWord(text, func(word []byte) {
		switch {
		case seen[string(word)]:
		case len(seen) >= MaxWords:
			all = false
		default:
			seen[string(word)] = true
			from := e.begin()
			e.arena = append(append(e.arena, word...), 0)
			e.keep(p, Main, from)
		}
	})
	return all
}

// parseWords reads words with AND, OR, NOT and parentheses, in either case; words
// side by side must all be there.
func parseWords(s string) (WordsValue, string) { return parseWordsOf(s, eachWord) }

// parseAdvanced is parseWords for texts that are kept folded, without punctuation.
func parseAdvanced(s string) (WordsValue, string) {
	return parseWordsOf(s, func(text string, yield func(word []byte)) {
		if word := appendFolded(nil, text, maxWordBytes); len(word) > 0 {
			yield(word)
		}
	})
}

func parseWordsOf(s string, each func(text string, yield func(word []byte))) (WordsValue, string) {
	p := wordsParser{each: each, rest: strings.FieldsFunc(strings.NewReplacer("(", " ( ", ")", " ) ").Replace(unescape(s)), unicode.IsSpace)}
	v, ok := p.any()
	switch {
	case p.words > maxAskedWords:
		return v, "asks for too many words"
	case !ok || len(p.rest) > 0:
		return v, "is not words with AND, OR, NOT and parentheses, as in (bone OR liver) AND metastases"
	}
	return v, ""
}

type wordsParser struct {
	each         func(text string, yield func(word []byte))
	rest         []string
	words, depth int
}

func (p *wordsParser) next(token string) bool {
	if len(p.rest) == 0 || !strings.EqualFold(p.rest[0], token) {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// any is all { OR all }.
func (p *wordsParser) any() (WordsValue, bool) {
	first, ok := p.all()
	v := WordsValue{Op: AnyWord, Parts: []WordsValue{first}}
	for ok && p.next("or") {
		var part WordsValue
		part, ok = p.all()
		v.Parts = append(v.Parts, part)
	}
	return v.plain(), ok
}

// all is one { [AND] one }.
func (p *wordsParser) all() (WordsValue, bool) {
	first, ok := p.one()
	v := WordsValue{Op: AllWords, Parts: []WordsValue{first}}
	for ok && (p.next("and") || len(p.rest) > 0 && p.rest[0] != ")" && !strings.EqualFold(p.rest[0], "or")) {
		var part WordsValue
		part, ok = p.one()
		v.Parts = append(v.Parts, part)
	}
	return v.plain(), ok
}

// plain is the only part of one.
func (v WordsValue) plain() WordsValue {
	if len(v.Parts) == 1 {
		return v.Parts[0]
	}
	return v
}

func (p *wordsParser) one() (WordsValue, bool) {
	if p.depth++; p.depth > maxWordsDepth {
		return WordsValue{}, false
	}
	defer func() { p.depth-- }()
	switch {
	case p.next("not"):
		of, ok := p.one()
		return WordsValue{Op: NoWord, Parts: []WordsValue{of}}, ok
	case p.next("("):
		v, ok := p.any()
		return v, ok && p.next(")")
	case len(p.rest) == 0 || p.rest[0] == ")" || strings.EqualFold(p.rest[0], "or") || strings.EqualFold(p.rest[0], "and"):
		return WordsValue{}, false
	}
	v := WordsValue{Op: AllWords}
	p.each(p.rest[0], func(word []byte) {
		v.Parts = append(v.Parts, WordsValue{Word: string(word)})
	})
	p.rest, p.words = p.rest[1:], p.words+len(v.Parts)
	return v.plain(), len(v.Parts) > 0 && p.words <= maxAskedWords
}

// on is the words as a condition on entries of words.
func (v WordsValue) on(column plan.Param) plan.Node {
	return v.node(func(word string) plan.Node { return plan.Term{Param: column, Value: append([]byte(word), 0)} })
}

// in is the words as a condition on entries of folded texts.
func (v WordsValue) in(column plan.Param) plan.Node {
	return v.node(func(word string) plan.Node {
		any := plan.Or{}
		for _, end := range []string{" ", "\x00"} {
			any = append(any, plan.Prefix(column, []byte(word+end)), plan.Contains{Param: column, Part: []byte(" " + word + end)})
		}
		return any
	})
}

// advanced is :text-advanced: the texts of a token have the words.
func (c *compiler) advanced(p *Param, v WordsValue) plan.Node {
	if c.env.Bodies == nil {
		return v.in(p.At(Text))
	}
	long := c.ofLong(p, func(*compiler) plan.Node { return v.in(p.At(Text)) })
	return plan.Or{plan.And{v.in(p.At(Text)), plan.Not{Of: plan.Term{Param: p.At(Long)}}}, long}
}

func (v WordsValue) node(one func(word string) plan.Node) plan.Node {
	var parts []plan.Node
	for _, part := range v.Parts {
		parts = append(parts, part.node(one))
	}
	switch v.Op {
	case AllWords:
		return plan.And(parts)
	case AnyWord:
		return plan.Or(parts)
	case NoWord:
		return plan.Not{Of: plan.Or(parts)}
	}
	return one(v.Word)
}
