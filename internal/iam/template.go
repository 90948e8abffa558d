package iam

import (
	"fmt"
	"strings"
)

// template is a value of a policy: text, wildcards and policy variables.
//
//	arn:aws:healthlake:*:*:datastore/fhir/${aws:PrincipalTag/store, 'none'}
//
// Source: IAM User Guide, "IAM policy elements: Variables and tags".
type template struct {
	parts []part
	shape func(glob) glob // what is done to the whole: folded case, bounded wildcards
	fixed glob            // of a template without variables, shaped
}

// part is a piece of text, or a variable.
type part struct {
	glob       glob // of text
	variable   bool
	key        keyRef
	fallback   string
	hasDefault bool
}

// language says how a text is to be read.
type language struct {
	variables bool // ${…} means something: Version 2012-10-17, string and ARN values
	wildcards bool // * and ? mean something
	lenient   bool // keep a variable that is not known: the statement is not about this server
	shape     func(glob) glob
}

// The shapes of values.
func asIs(g glob) glob        { return g }
func folded(g glob) glob      { return g.fold() }
func resourceARN(g glob) glob { return g.withinFields(true) }
func comparedARN(g glob) glob { return g.withinFields(false) }

// newTemplate reads a value.
func newTemplate(text string, l language) (template, error) {
	t := template{shape: l.shape}
	for text != "" {
		at := -1
		if l.variables {
			at = strings.Index(text, "${")
		}
		if at < 0 {
			at = len(text)
		}
		if at > 0 {
			t.parts = append(t.parts, part{glob: l.read(text[:at])})
		}
		if text = text[at:]; text == "" {
			break
		}
		end := strings.IndexByte(text, '}')
		if end < 0 {
			return t, fmt.Errorf("${ without its }")
		}
		p, err := newVariable(text[len("${"):end], l)
		if err != nil {
			return t, err
		}
		t.parts = append(t.parts, p)
		text = text[end+1:]
	}
	return t.settle(), nil
}

func (l language) read(text string) glob {
	if l.wildcards {
		return newGlob(text)
	}
	return literal(text)
}

// newVariable reads what stands between the braces: one of the three characters
// that cannot be written plainly, or a key with an optional default.
func newVariable(inside string, l language) (part, error) {
	if inside == "*" || inside == "?" || inside == "$" {
		return part{glob: literal(inside)}, nil
	}
	name, rest, hasDefault := strings.Cut(inside, ",")
	key, ok := findKey(strings.TrimSpace(name))
	switch {
	case !ok && l.lenient:
		return part{glob: literal("${" + inside + "}")}, nil
	case !ok:
		return part{}, fmt.Errorf("the policy variable ${%s} is not known; known are %s", strings.TrimSpace(name), keyNames())
	case key.many:
		return part{}, fmt.Errorf("%s has several values and cannot be a policy variable", key)
	}
	p := part{variable: true, key: key, hasDefault: hasDefault}
	if hasDefault {
		quoted := strings.TrimSpace(rest)
		if len(quoted) < 2 || quoted[0] != '\'' || quoted[len(quoted)-1] != '\'' {
			return part{}, fmt.Errorf("the default of ${%s} must stand between single quotes", inside)
		}
		p.fallback = quoted[1 : len(quoted)-1]
	}
	return p, nil
}

// settle joins a template that has no variable into one glob.
func (t template) settle() template {
	fixed := glob{}
	for _, p := range t.parts {
		if p.variable {
			return t
		}
		fixed = append(fixed, p.glob...)
	}
	t.fixed = t.shape(fixed)
	return t
}

// expand puts the variables' values in, as literal text: a wildcard in a tag is
// a character. It is false where a variable has neither value nor default.
func (t template) expand(e *environment) (glob, bool) {
	if t.fixed != nil {
		return t.fixed, true
	}
	var out glob
	for _, p := range t.parts {
		text, ok := p.expand(e)
		if !ok {
			return nil, false
		}
		out = append(out, text...)
	}
	return t.shape(out), true
}

func (p part) expand(e *environment) (glob, bool) {
	if !p.variable {
		return p.glob, true
	}
	if values := p.key.get(e); len(values) > 0 {
		return literal(values[0]), true
	}
	return literal(p.fallback), p.hasDefault
}
