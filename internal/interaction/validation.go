package interaction

import (
	"bytes"
	"context"
	"slices"
	"unicode/utf8"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// IssueExtension marks a resource that was stored at the level minimal with
// faults: a valueString with an OperationOutcome as text (devguide, "FHIR
// resource validation"). The server owns it and takes away what a client sends
// back of it.
const IssueExtension = "http://healthlake.amazonaws.com/fhir/StructureDefinition/validation-issue"

// valid holds a resource against R4 at the session's level: the document to
// store, and the issues that do not forbid it. A refusal has all issues in Place.
func (s *Session) valid(ctx context.Context, doc *fhir.Document) (*fhir.Document, []fault.Issue, error) {
	if s.Validator == nil {
		return doc, nil, nil
	}
	marked := slices.Collect(issueExtensions(doc.Root()))
	if len(marked) > 0 {
		clean, err := fhir.ParseStored(fhir.Apply(doc, unmark(doc.Root(), marked)))
		if err != nil {
			return nil, nil, fault.Wrap(fault.Internal, "interaction.valid", err)
		}
		doc = clean
	}
	issues := s.Validator.Validate(ctx, doc.Root(), s.Level)
	if err := validate.Refusal("interaction.valid", issues); err != nil {
		return nil, nil, err
	}
	if !s.flawed(issues) {
		return doc, issues, nil
	}
	doc, err := mark(doc, issues)
	return doc, issues, err
}

// Flawed reports whether a version was stored with faults, which only the level
// minimal lets pass.
func (s *Session) Flawed(v *Version) bool { return s.flawed(v.Issues) }

// flawed: at minimal a fault is a warning. At the other levels a warning is one
// of R4's own, as of a rule that should be kept.
func (s *Session) flawed(issues []fault.Issue) bool {
	return s.Level == validate.Minimal && slices.ContainsFunc(issues, func(i fault.Issue) bool { return i.Severity == fault.SeverityWarning })
}

// outcomeOf lists issues as an OperationOutcome.
func outcomeOf(issues []fault.Issue) []byte {
	return fhir.Outcome(&fault.Error{Kind: fault.Invalid, Place: issues})
}

// Outcome is what was found in the version's resource when it was written or,
// when there was nothing, that it was.
func (v *Version) Outcome() []byte {
	if len(v.Issues) > 0 {
		return outcomeOf(v.Issues)
	}
	done := v.Type + ": what matches is deleted" // of several at once
	switch {
	case !v.Deleted:
		done = v.Location() + " is stored"
	case v.Number > 0:
		done = v.Type + "/" + v.ID + " is deleted"
	}
	return fhir.AppendOutcome(nil, fhir.OutcomeIssue{Severity: "information", Code: "informational", Diagnostics: done})
}

// issueExtensions are the marks a resource carries.
func issueExtensions(root fhir.Node) func(yield func(fhir.Node) bool) {
	return func(yield func(fhir.Node) bool) {
		list := root.GetName(nameExtension)
		if list.Kind() != fhir.Array {
			return
		}
		for e := range list.Items() {
			if e.GetName(nameURL).Is(IssueExtension) && !yield(e) {
				return
			}
		}
	}
}

var nameExtension, nameURL = fhir.Intern("extension"), fhir.Intern("url")

// unmark takes marks away, and with the last extension the list: R4's JSON has
// no empty arrays.
func unmark(root fhir.Node, marked []fhir.Node) []fhir.Edit {
	if list := root.GetName(nameExtension); list.Len() == len(marked) {
		return []fhir.Edit{{Node: list}}
	}
	edits := make([]fhir.Edit, len(marked))
	for i, e := range marked {
		edits[i] = fhir.Edit{Node: e}
	}
	return edits
}

// mark notes issues in the resource, where its type has extensions and their
// list is one.
func mark(doc *fhir.Document, issues []fault.Issue) (*fhir.Document, error) {
	root := doc.Root()
	list := root.GetName(nameExtension)
	if _, extensible := r4.Element(root.ResourceType(), "extension"); !extensible || list.Exists() && list.Kind() != fhir.Array {
		return doc, nil
	}
	note := append(fhir.AppendString([]byte(`{"url":`), IssueExtension), `,"valueString":`...)
	note = append(fhir.AppendString(note, string(outcomeOf(issues))), '}')
	edit := fhir.Append(list, note)
	if !list.Exists() {
		edit = fhir.Set(root, "extension", append(append([]byte{'['}, note...), ']'))
	}
	marked, err := fhir.ParseStored(fhir.Apply(doc, []fhir.Edit{edit}))
	return marked, fault.Wrap(fault.Internal, "interaction.mark", err)
}

// placeless takes lines and columns away: of a text that the client never saw.
func placeless(err error) error {
	f := *fault.From(err)
	f.Place = slices.Clone(f.Place)
	for i := range f.Place {
		f.Place[i].Line, f.Place[i].Col = 0, 0
	}
	return &f
}

// asSent gives the issues of an entry the places they have in the bundle. The
// resource was validated with its references rewritten, so that what they now
// point to is looked at too; the places come from looking once more at what the
// client sent. What is wrong only behind the rewriting has no line.
func (t *txn) asSent(ctx context.Context, w *write, err error) error {
	err = placeless(err)
	if w.method == "PATCH" || t.Validator == nil {
		return err
	}
	sent, bad := fhir.Parse(w.resource.Raw())
	if bad != nil {
		return err
	}
	defer sent.Release()
	places := map[string]fault.Issue{}
	for _, issue := range t.Validator.Validate(ctx, sent.Root(), t.Level) {
		places[issue.Code+issue.Expression] = issue
	}
	f := fault.From(err)
	for i, issue := range f.Place {
		at := places[issue.Code+issue.Expression]
		f.Place[i].Line, f.Place[i].Col = at.Line, at.Col
	}
	return w.shift(f)
}

// shift moves places in the entry's resource to where they are in the bundle.
func (e *entry) shift(f *fault.Error) error {
	moved := *f
	moved.Place = slices.Clone(f.Place)
	line, col := e.start()
	for i := range moved.Place {
		p := &moved.Place[i]
		if p.Line == 1 {
			p.Col += col - 1
		}
		if p.Line > 0 {
			p.Line += line - 1
		}
	}
	return &moved
}

// placed is an entry's refusal with its places in the bundle.
func (e *entry) placed(err error) error {
	f := fault.From(err)
	if len(f.Place) == 0 {
		return err
	}
	if e.method == "PATCH" {
		return e.in(e.placedPatch(err))
	}
	return e.in(e.shift(f))
}

// placedPatch is a refusal of a patch with its places in the bundle: a JSON
// Patch, which is packed in base64, has none there.
func (e *entry) placedPatch(err error) error {
	f := fault.From(err)
	switch {
	case len(f.Place) == 0:
		return err
	case !e.operations.FHIRPath:
		return placeless(err)
	}
	return e.shift(f)
}

// start is where the entry's resource begins in the bundle.
func (e *entry) start() (line, col int) {
	if e.starts == nil {
		return e.resource.Position()
	}
	at := e.starts()[e.at]
	return at[0], at[1]
}

// starts finds where the resource of each entry begins, line and column, in one
// pass over the bundle: a batch may have thousands of faulty ones.
func starts(items fhir.Node) [][2]int {
	all := make([][2]int, 0, items.Len())
	var text []byte
	if items.Exists() {
		text = items.Document().Bytes()
	}
	from, line, col := 0, 1, 1
	for item := range items.Items() {
		if n := item.Get("resource"); n.Exists() {
			part := text[from:n.Offset()]
			if last := bytes.LastIndexByte(part, '\n'); last >= 0 {
				line, col, part = line+bytes.Count(part, []byte{'\n'}), 1, part[last+1:]
			}
			col += utf8.RuneCount(part)
			from = n.Offset()
		}
		all = append(all, [2]int{line, col})
	}
	return all
}

// Examine holds a resource that comes another way than by an interaction, as
// imports do, against R4 at the session's level: the document to store, the
// issues that do not forbid it, and whether it is stored with faults. The
// session's Validator and Level are looked at only.
func (s *Session) Examine(ctx context.Context, doc *fhir.Document) (*fhir.Document, []fault.Issue, bool, error) {
	if notStored[doc.ResourceType()] {
		return nil, nil, false, fault.New(fault.NotSupported, "interaction.Examine", "resources of type %s are not stored", doc.ResourceType())
	}
	doc, issues, err := s.valid(ctx, doc)
	return doc, issues, err == nil && s.flawed(issues), err
}
