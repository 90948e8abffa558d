package iam

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Bounds of what is read. AWS holds a managed policy to 6,144 characters and a
// role's inline ones to 10,240 together (IAM User Guide, "IAM and AWS STS
// quotas"); these leave room for layout and comments.
const (
	DocumentBytesMax = 64 << 10 // one policy document as JSON
	FileBytesMax     = 4 << 20  // an IAM file
	nodesMax         = 200_000  // values in one text, aliases of YAML written out
	depthMax         = 32       // an IAM file's policy has ten levels
	problemsMax      = 20       // findings told at once
)

// kind is what a node is.
type kind uint8

const (
	isText kind = iota
	isNumber
	isBool
	isNull
	isList
	isObject
)

func (k kind) String() string {
	return [...]string{"text", "a number", "true or false", "null", "a list", "an object"}[k]
}

// node is one value of a JSON or YAML text, with its place.
type node struct {
	kind      kind
	text      string   // of a scalar, as written
	items     []*node  // of a list
	members   []member // of an object, in the text's order
	path      string   // "policies[0].document.Statement[1].Action"
	line, col int      // 1-based
}

type member struct {
	name  string
	value *node
}

// get finds a member; nil where there is none.
func (n *node) get(name string) *node {
	for _, m := range n.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// below is the path of a member or an item.
func below(path, name string) string {
	if path == "" || strings.HasPrefix(name, "[") {
		return path + name
	}
	return path + "." + name
}

// parseTree reads a text as JSON where it begins with a brace, else as YAML.
// JSON read as YAML would trip over tabs.
func parseTree(text []byte) (*node, error) {
	if len(text) > FileBytesMax {
		return nil, fault.New(fault.TooLarge, opParse, "the file is larger than %d bytes", FileBytesMax)
	}
	if trimmed := bytes.TrimLeft(text, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '{' {
		return parseJSON(text)
	}
	return parseYAML(text)
}

const opParse = "iam.Parse"

// syntax is the error of a text that is no JSON or YAML.
func syntax(line, col int, format string, args ...any) error {
	detail := fmt.Sprintf(format, args...)
	return &fault.Error{Kind: fault.Syntax, Op: opParse, Detail: placed(line, col, "", detail),
		Place: []fault.Issue{{Kind: fault.Syntax, Detail: detail, Line: line, Col: col}}}
}

// placed puts the place before a finding.
func placed(line, col int, path, detail string) string {
	var b strings.Builder
	if line > 0 {
		fmt.Fprintf(&b, "line %d", line)
		if col > 0 {
			fmt.Fprintf(&b, ", column %d", col)
		}
		b.WriteString(": ")
	}
	if path != "" {
		b.WriteString(path + ": ")
	}
	return b.String() + detail
}

// findings collects what is wrong with a text, and what only looks wrong.
type findings struct {
	problems []fault.Issue
	warnings []fault.Issue
}

func (f *findings) wrong(n *node, format string, args ...any) {
	f.problems = note(f.problems, fault.SeverityError, n, fmt.Sprintf(format, args...))
}

func (f *findings) odd(n *node, format string, args ...any) {
	f.warnings = note(f.warnings, fault.SeverityWarning, n, fmt.Sprintf(format, args...))
}

func note(list []fault.Issue, severity fault.Severity, n *node, detail string) []fault.Issue {
	if len(list) >= problemsMax {
		return list
	}
	return append(list, fault.Issue{Severity: severity, Kind: fault.Invalid, Detail: detail, Expression: n.path, Line: n.line, Col: n.col})
}

// err is all problems as one error; nil where there is none.
func (f *findings) err() error {
	if len(f.problems) == 0 {
		return nil
	}
	lines := make([]string, len(f.problems))
	for i, p := range f.problems {
		lines[i] = Finding(p)
	}
	return &fault.Error{Kind: fault.Invalid, Op: opParse, Detail: strings.Join(lines, "; "), Place: f.problems}
}

// Finding writes one problem or warning with its place, for a person:
// "line 4, column 9: users[0].policies[0]: no policy is named ward-b".
func Finding(i fault.Issue) string { return placed(i.Line, i.Col, i.Expression, i.Detail) }

// object calls the reader of each member; it tells unknown ones and, where n is
// no object, that.
func (f *findings) object(n *node, readers map[string]func(*node)) {
	if n.kind != isObject {
		f.wrong(n, "is %s, wanted an object", n.kind)
		return
	}
	for _, m := range n.members {
		if read := readers[m.name]; read != nil {
			read(m.value)
			continue
		}
		f.wrong(m.value, "%q is not known here%s", m.name, meant(m.name, readers))
	}
}

// meant proposes the member that was perhaps meant, else lists them all.
func meant(name string, readers map[string]func(*node)) string {
	known := make([]string, 0, len(readers))
	for k := range readers {
		if strings.EqualFold(k, name) {
			return fmt.Sprintf(" (did you mean %q?)", k)
		}
		known = append(known, k)
	}
	slices.Sort(known)
	return "; known are " + strings.Join(known, ", ")
}

// list calls read for each item.
func (f *findings) list(n *node, read func(*node)) {
	if n.kind != isList {
		f.wrong(n, "is %s, wanted a list", n.kind)
		return
	}
	for _, item := range n.items {
		read(item)
	}
}

// oneOrMany calls read for the value itself, or for each item of a list, which
// must have one.
func (f *findings) oneOrMany(n *node, read func(*node)) {
	if n.kind != isList {
		read(n)
		return
	}
	if len(n.items) == 0 {
		f.wrong(n, "is an empty list")
	}
	for _, item := range n.items {
		read(item)
	}
}

// string reads a text; a number is taken as it is written, since YAML makes
// numbers of account ids.
func (f *findings) string(n *node) string {
	if n.kind != isText && n.kind != isNumber {
		f.wrong(n, "is %s, wanted text", n.kind)
		return ""
	}
	return n.text
}

// scalar reads a text, a number or a boolean as it is written.
func (f *findings) scalar(n *node) string {
	if n.kind == isBool {
		return n.text
	}
	return f.string(n)
}
