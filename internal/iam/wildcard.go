package iam

import (
	"strings"
	"unicode"
)

// A glob is a pattern made ready: one rune a position, where the wildcards are
// negative numbers, so that a literal asterisk (written ${*} in a policy, or
// brought by a variable's value) cannot be taken for one.
type glob []rune

// The wildcards. Inside one of the first five fields of an ARN a wildcard stays
// within the field, except an asterisk that ends it (IAM User Guide, "IAM JSON
// policy elements: Resource", "Using wildcards in resource ARNs").
const (
	anyRun       rune = -1 // * : any characters, also none
	anyOne       rune = -2 // ? : one character
	anyRunField  rune = -3 // * : any characters but the colon
	anyOneField  rune = -4 // ? : one character but the colon
	arnSeparator rune = ':'
)

// arnColons is how many colons part an ARN's six fields; later ones belong to
// the resource.
const arnColons = 5

// literal makes a glob that matches s and nothing else.
func literal(s string) glob { return glob([]rune(s)) }

// newGlob reads * and ? in s.
func newGlob(s string) glob {
	g := literal(s)
	for i, r := range g {
		switch r {
		case '*':
			g[i] = anyRun
		case '?':
			g[i] = anyOne
		}
	}
	return g
}

// fold lowers the letters, for names that do not know case.
func (g glob) fold() glob {
	out := make(glob, len(g))
	for i, r := range g {
		if out[i] = r; r >= 0 {
			out[i] = unicode.ToLower(r)
		}
	}
	return out
}

// withinFields bounds the wildcards of an ARN's first five fields to their
// field. Where reach is true an asterisk that ends a field goes on past it, as
// in Resource; the ARN operators of conditions compare field by field.
func (g glob) withinFields(reach bool) glob {
	if len(g) == 1 && g[0] == anyRun {
		return g
	}
	out := make(glob, len(g))
	copy(out, g)
	colons := 0
	for i, r := range g {
		if r == arnSeparator {
			colons++
		}
		if colons >= arnColons {
			break
		}
		ends := i+1 == len(g) || g[i+1] == arnSeparator
		switch {
		case r == anyOne:
			out[i] = anyOneField
		case r == anyRun && !(reach && ends):
			out[i] = anyRunField
		}
	}
	return out
}

// match reports whether all of s fits, in time polynomial in both lengths: on a
// misfit only the last asterisk that may grow is tried again, since an earlier
// one could do nothing that this one cannot; a bounded asterisk that runs into
// a colon hands back to the last unbounded one before it.
func (g glob) match(s string) bool {
	if len(g) == 1 && g[0] == anyRun {
		return true
	}
	text := []rune(s)
	var last, lastFree star
	p, t := 0, 0
	for t < len(text) || p < len(g) {
		switch {
		case p < len(g) && isRun(g[p]):
			last = star{set: true, after: p + 1, at: t}
			if g[p] == anyRun {
				lastFree = last
			}
			p++
			continue
		case p < len(g) && t < len(text) && one(g[p], text[t]):
			p, t = p+1, t+1
			continue
		case grow(&last, g, text):
		case grow(&lastFree, g, text):
			last = lastFree
		default:
			return false
		}
		if last.after == lastFree.after {
			lastFree = last
		}
		p, t = last.after, last.at
	}
	return true
}

// star is an asterisk passed on the way: the pattern goes on at after, and the
// text that it has taken ends before at.
type star struct {
	set       bool
	after, at int
}

// grow lets a star take one character more.
func grow(s *star, g glob, text []rune) bool {
	if !s.set || s.at >= len(text) {
		return false
	}
	if g[s.after-1] == anyRunField && text[s.at] == arnSeparator {
		return false
	}
	s.at++
	return true
}

func isRun(r rune) bool { return r == anyRun || r == anyRunField }

// one matches a single position.
func one(want, got rune) bool {
	switch want {
	case anyOne:
		return true
	case anyOneField:
		return got != arnSeparator
	}
	return want == got
}

// foldText lowers s as glob.fold lowers a pattern: rune by rune.
func foldText(s string) string { return strings.Map(unicode.ToLower, s) }
