package iam

import (
	"fmt"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Effect is what a statement does.
type Effect uint8

// The effects.
const (
	Allow Effect = iota
	Deny
)

// Versions of the policy language (IAM User Guide, "IAM JSON policy elements:
// Version"). A document without one is of the older, which has no variables.
const (
	versionVariables = "2012-10-17"
	versionOld       = "2008-10-17"
)

// Document is a policy document, compiled. It is immutable and safe for
// concurrent use.
type Document struct {
	name       string // of the policy, for refusals: an ARN or a name
	statements []statement
	warnings   []fault.Issue
}

// Name is the policy's name; a trust document has its role's.
func (d *Document) Name() string { return d.name }

// Warnings are places that are understood and yet hardly meant, such as an
// action that there is not; Finding writes one.
func (d *Document) Warnings() []fault.Issue { return d.warnings }

// statement is one statement of a document.
type statement struct {
	sid          string
	effect       Effect
	actions      []glob // of folded names
	notActions   bool
	resources    []template
	notResources bool
	conditions   []condition
	principals   principals // of a trust document
}

// ParseDocument reads an identity policy as JSON. Whatever is not understood is
// refused as fault.Invalid (fault.Syntax where it is no JSON), with all places
// in the error; nothing is passed over that could make a policy mean more or
// less than it says. The one exception are conditions and variables of
// statements that are about other services' actions alone, such as s3:GetObject:
// they are checked in form only, so that documents made for AWS can be used.
func ParseDocument(name string, text []byte) (*Document, error) {
	return parseDocumentText(name, text, identityPolicy)
}

// ParseTrust reads a role's trust policy, which names Principals and has no
// Resource.
func ParseTrust(name string, text []byte) (*Document, error) {
	return parseDocumentText(name, text, trustPolicy)
}

// sort is which kind of document is read.
type sort uint8

const (
	identityPolicy sort = iota
	trustPolicy
)

func parseDocumentText(name string, text []byte, kind sort) (*Document, error) {
	if len(text) > DocumentBytesMax {
		return nil, fault.New(fault.TooLarge, opParse, "a policy document has at most %d bytes", DocumentBytesMax)
	}
	root, err := parseJSON(text)
	if err != nil {
		return nil, err
	}
	var f findings
	d := f.document(name, root, kind)
	return d, f.err()
}

// document reads a document that stands in a tree: an object, or a text that
// holds one as JSON.
func (f *findings) document(name string, n *node, kind sort) *Document {
	if n.kind == isText {
		return f.embedded(name, n, kind)
	}
	d := &Document{name: name}
	r := &documentReader{findings: &findings{}, document: d, sort: kind, variables: n.get("Version") != nil && n.get("Version").text == versionVariables, sids: map[string]bool{}}
	r.object(n, map[string]func(*node){
		"Version":   r.version,
		"Id":        func(n *node) { r.string(n) },
		"Statement": func(n *node) { r.oneOrMany(n, r.statement) },
	})
	if n.kind == isObject && n.get("Statement") == nil {
		r.wrong(n, "has no Statement")
	}
	f.problems = append(f.problems, r.problems...)
	f.warnings = append(f.warnings, r.warnings...)
	d.warnings = r.warnings
	return d
}

// embedded reads a document written as JSON inside a text; its places are told
// from the text's.
func (f *findings) embedded(name string, n *node, kind sort) *Document {
	d, err := parseDocumentText(name, []byte(n.text), kind)
	if err == nil {
		f.warnings = append(f.warnings, d.warnings...)
		return d
	}
	f.wrong(n, "the JSON inside: %s", fault.From(err).Detail)
	return nil
}

// documentReader reads one document.
type documentReader struct {
	*findings
	document  *Document
	sort      sort
	variables bool
	sids      map[string]bool
}

func (r *documentReader) version(n *node) {
	if v := r.string(n); v != versionVariables && v != versionOld {
		r.wrong(n, "%q is no version of the policy language; there are %s and %s", v, versionVariables, versionOld)
	}
}

func (r *documentReader) statement(n *node) {
	s := statement{}
	live := aboutThisServer(n)
	r.object(n, map[string]func(*node){
		"Sid":          func(n *node) { s.sid = r.sid(n) },
		"Effect":       func(n *node) { s.effect = r.effect(n) },
		"Action":       func(n *node) { r.oneOrMany(n, func(n *node) { r.action(n, &s, live) }) },
		"NotAction":    func(n *node) { s.notActions = true; r.oneOrMany(n, func(n *node) { r.action(n, &s, live) }) },
		"Resource":     func(n *node) { r.oneOrMany(n, func(n *node) { r.resource(n, &s, live) }) },
		"NotResource":  func(n *node) { s.notResources = true; r.oneOrMany(n, func(n *node) { r.resource(n, &s, live) }) },
		"Condition":    func(n *node) { r.conditions(n, &s, live) },
		"Principal":    func(n *node) { s.principals = r.principals(n) },
		"NotPrincipal": func(n *node) { r.wrong(n, "NotPrincipal is not supported: name the principals") },
	})
	if n.kind != isObject {
		return
	}
	r.complete(n)
	r.document.statements = append(r.document.statements, s)
}

// complete says what a statement lacks or has too much of.
func (r *documentReader) complete(n *node) {
	has := func(name string) bool { return n.get(name) != nil }
	if !has("Effect") {
		r.wrong(n, "has no Effect")
	}
	if has("Action") == has("NotAction") {
		r.wrong(n, "needs either Action or NotAction")
	}
	resource := has("Resource") || has("NotResource")
	switch {
	case r.sort == identityPolicy && has("Resource") == has("NotResource"):
		r.wrong(n, "needs either Resource or NotResource")
	case r.sort == identityPolicy && has("Principal"):
		r.wrong(n.get("Principal"), "a policy of a user or role has no Principal: it applies to whom it is given to")
	case r.sort == trustPolicy && resource:
		r.wrong(n, "a trust policy has no Resource: it is about its role")
	case r.sort == trustPolicy && !has("Principal"):
		r.wrong(n, "has no Principal")
	}
}

// sid reads a statement's name: letters and digits, once in a document (IAM User
// Guide, "IAM JSON policy elements: Sid").
func (r *documentReader) sid(n *node) string {
	sid := r.string(n)
	switch {
	case strings.Trim(sid, alphanumeric) != "":
		r.wrong(n, "%q has more than letters and digits", sid)
	case sid != "" && r.sids[sid]:
		r.wrong(n, "%q names two statements", sid)
	}
	r.sids[sid] = true
	return sid
}

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func (r *documentReader) effect(n *node) Effect {
	switch e := r.string(n); e {
	case "Allow":
	case "Deny":
		return Deny
	default:
		r.wrong(n, "%q is neither Allow nor Deny", e)
	}
	return Allow
}

// action reads service:Name, where the name may hold wildcards, or *.
func (r *documentReader) action(n *node, s *statement, live bool) {
	action := r.string(n)
	service, name, found := strings.Cut(action, ":")
	switch {
	case action == "*":
	case !found || strings.Trim(name, alphanumeric+"*?") != "" || name == "",
		service != "*" && strings.Trim(service, alphanumeric+"-") != "", service == "":
		r.wrong(n, "%q is not an action: healthlake:ReadResource, healthlake:*Job or *", action)
		return
	}
	g := newGlob(action).fold()
	s.actions = append(s.actions, g)
	if live && r.sort == identityPolicy && strings.EqualFold(service, servicePrefix) && len(matchingActions(g)) == 0 {
		r.odd(n, "%q is the name of no action", action)
	}
}

// resource reads an ARN with wildcards, or *.
func (r *documentReader) resource(n *node, s *statement, live bool) {
	text := r.string(n)
	complete := strings.Count(text, ":") >= arnColons
	if text != "*" && (!strings.HasPrefix(text, "arn:") || !complete && !strings.HasSuffix(text, "*")) {
		r.wrong(n, "%q is not an ARN nor *: arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/*", text)
		return
	}
	t, err := newTemplate(text, language{variables: r.variables, wildcards: true, lenient: !live, shape: resourceARN})
	if err != nil {
		r.wrong(n, "%v", err)
		return
	}
	s.resources = append(s.resources, t)
}

// conditions reads {operator: {key: value or values}}.
func (r *documentReader) conditions(n *node, s *statement, live bool) {
	if n.kind != isObject {
		r.wrong(n, "is %s, wanted an object of operators", n.kind)
		return
	}
	for _, m := range n.members {
		op, err := findOperator(m.name)
		if err != nil {
			r.wrong(m.value, "%v", err)
			continue
		}
		if m.value.kind != isObject {
			r.wrong(m.value, "is %s, wanted an object of keys", m.value.kind)
			continue
		}
		for _, k := range m.value.members {
			r.condition(op, k, s, live)
		}
	}
}

func (r *documentReader) condition(op operator, m member, s *statement, live bool) {
	key, ok := findKey(m.name)
	if !ok && !live {
		r.oneOrMany(m.value, func(n *node) { r.scalar(n) })
		return
	}
	if !ok {
		r.wrong(m.value, "the condition key %q is not known; known are %s", m.name, keyNames())
		return
	}
	if reason := unfit(op, key); reason != "" {
		r.wrong(m.value, "%s", reason)
		return
	}
	if op.set != single && !key.many {
		r.odd(m.value, "%s has one value: %s is meant for keys of several, and holds where the key is missing if it is %s", key, op.name, prefixAll)
	}
	c := condition{op: op, key: key}
	r.oneOrMany(m.value, func(n *node) {
		o, err := op.compile(r.scalar(n), language{variables: r.variables, lenient: !live})
		if err != nil {
			r.wrong(n, "%v", err)
		}
		c.operands = append(c.operands, o)
	})
	s.conditions = append(s.conditions, c)
}

// unfit says why an operator cannot look at a key, or nothing.
func unfit(op operator, key keyRef) string {
	switch {
	case op.null:
		return ""
	case key.many && op.set == single:
		return fmt.Sprintf("%s has several values: write %s%s or %s%s", key, prefixAny, op.name, prefixAll, op.name)
	case !op.takes(key.holds):
		return fmt.Sprintf("%s cannot be compared by %s", key, op.name)
	}
	return ""
}
