package interaction

import (
	"bytes"
	"context"
	"errors"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// maxMeta bounds how many resources $meta of a type or of the store looks at.
const maxMeta = 10_000

// metaPage is how many of them it reads at a time.
const metaPage = 500

// metaLists are the members of Meta that $meta-add and $meta-delete work on (R4
// resource-operation-meta-add.html).
var metaLists = []string{"profile", "security", "tag"}

// meta gives the meta of a resource, or the profiles, tags and security labels
// that are in use (R4 resource-operation-meta.html).
func meta(ctx context.Context, s *Session, req OperationRequest) ([]byte, error) {
	if req.ID != "" {
		v, err := s.Read(ctx, req.Type, req.ID)
		if err != nil {
			return nil, err
		}
		return metaOf(v)
	}
	types := s.Registry.Types()
	if req.Type != "" {
		t, err := s.typ(req.Type)
		if err != nil {
			return nil, err
		}
		types = []plan.Type{t}
	}
	return s.metaInUse(ctx, types)
}

func metaOf(v *Version) ([]byte, error) {
	doc, err := fhir.ParseStored(v.Resource())
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "interaction.metaOf", err)
	}
	defer doc.Release()
	return metaAnswer(doc.Root().Get("meta").Raw()), nil
}

func metaAnswer(raw []byte) []byte {
	const before, behind = `{"resourceType":"Parameters","parameter":[{"name":"return","valueMeta":`, `}]}`
	return append(append([]byte(before), raw...), behind...)
}

// metaInUse collects from all current resources that the grant shows.
func (s *Session) metaInUse(ctx context.Context, types []plan.Type) ([]byte, error) {
	asked := &plan.Plan{Arms: s.Grant.Arms(types, search.Read), Limit: metaPage, Total: plan.TotalNone, Work: maxSearchWork}
	found := metaUnion{}
	if len(asked.Arms) == 0 {
		return metaAnswer(found.json()), nil
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	for n := 0; ; {
		page, err := view.Search(ctx, asked)
		if err != nil {
			return nil, err
		}
		for _, rec := range page.Records {
			if err := found.add(fhir.StoredJSON(rec.Body)); err != nil {
				return nil, err
			}
		}
		if page.Next == nil {
			return metaAnswer(found.json()), nil
		}
		if n += len(page.Records); n >= maxMeta {
			return nil, fault.New(fault.TooCostly, "interaction.meta", "there are more than %d resources to look at", maxMeta)
		}
		asked.After = page.Next
	}
}

// metaUnion is what is in use, each once, in the order met.
type metaUnion struct {
	seen  map[string]bool
	lists [3][]byte // as metaLists
}

func (u *metaUnion) add(resource []byte) error {
	doc, err := fhir.ParseStored(resource)
	if err != nil {
		return fault.Wrap(fault.Internal, "interaction.metaUnion", err)
	}
	defer doc.Release()
	if u.seen == nil {
		u.seen = map[string]bool{}
	}
	for i, name := range metaLists {
		for item := range doc.Root().Get("meta").Get(name).Items() {
			key := name + " " + metaKey(item)
			if !u.seen[key] {
				u.seen[key] = true
				u.lists[i] = append(append(u.lists[i], ','), item.Raw()...)
			}
		}
	}
	return nil
}

func (u *metaUnion) json() []byte {
	out := []byte{'{'}
	for i, list := range u.lists {
		if list == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(fhir.AppendString(out, metaLists[i]), ":["...), list[1:]...)
		out = append(out, ']')
	}
	return append(out, '}')
}

// metaKey tells items apart: a profile by its text, a tag by system and code.
func metaKey(item fhir.Node) string {
	if item.Kind() == fhir.Object {
		return item.Get("system").Text() + "|" + item.Get("code").Text()
	}
	return item.Text()
}

func metaAdd(ctx context.Context, s *Session, req OperationRequest) ([]byte, error) {
	return s.changeMeta(ctx, req, addMeta)
}

func metaDelete(ctx context.Context, s *Session, req OperationRequest) ([]byte, error) {
	return s.changeMeta(ctx, req, deleteMeta)
}

// changeMeta carries out $meta-add and $meta-delete, as a patch of the resource;
// one that would change nothing makes no version.
func (s *Session) changeMeta(ctx context.Context, req OperationRequest, how func(doc *fhir.Document, given fhir.Node) []fhir.Edit) ([]byte, error) {
	key, err := s.key(req.Type, req.ID)
	if err == nil {
		err = s.mayChange(key.Type)
	}
	if err != nil {
		return nil, err
	}
	doc, err := parseParameters(req.Body)
	if err != nil {
		return nil, err
	}
	given := fhir.Node{}
	for p := range doc.Root().Get("parameter").Items() {
		if p.Get("name").Is("meta") {
			given = p.Get("valueMeta")
		}
	}
	if err := s.validMeta(ctx, doc.Root()); err != nil {
		return nil, err
	}
	if given.Kind() != fhir.Object {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.changeMeta", Subject: "meta", Detail: "it is missing", Hint: "send Parameters with a parameter meta that has a valueMeta"}
	}
	v, err := s.patchKey(ctx, key, metaPatch{given, how}, req.Match)
	if errors.Is(err, errUnchanged) {
		v, err = s.Read(ctx, req.Type, req.ID)
	}
	if err != nil {
		return nil, err
	}
	return metaOf(v)
}

// validMeta holds the Parameters with the meta against R4: members that it does
// not know would be passed over.
func (s *Session) validMeta(ctx context.Context, parameters fhir.Node) error {
	if s.Validator == nil || s.Level == validate.Minimal {
		return nil
	}
	return validate.Refusal("interaction.changeMeta", s.Validator.Validate(ctx, parameters, s.Level))
}

// metaPatch changes a resource's meta by one that was given.
type metaPatch struct {
	given fhir.Node
	how   func(doc *fhir.Document, given fhir.Node) []fhir.Edit
}

var errUnchanged = errors.New("there is nothing to change")

func (p metaPatch) Apply(doc *fhir.Document) ([]byte, error) {
	edits := p.how(doc, p.given)
	if len(edits) == 0 {
		return nil, errUnchanged
	}
	return fhir.Apply(doc, edits), nil
}

func metaKeys(list fhir.Node) map[string]bool {
	keys := map[string]bool{}
	for item := range list.Items() {
		keys[metaKey(item)] = true
	}
	return keys
}

// addMeta adds what is not there yet. Every stored resource is given out with a
// meta.
func addMeta(doc *fhir.Document, given fhir.Node) []fhir.Edit {
	var edits []fhir.Edit
	meta := doc.Root().Get("meta")
	for _, name := range metaLists {
		list := meta.Get(name)
		has := metaKeys(list)
		var more [][]byte
		for item := range given.Get(name).Items() {
			if key := metaKey(item); !has[key] {
				has[key] = true
				more = append(more, item.Raw())
			}
		}
		switch {
		case len(more) == 0:
		case list.Kind() == fhir.Array:
			edits = append(edits, fhir.Append(list, bytes.Join(more, []byte{','})))
		default:
			edits = append(edits, fhir.Set(meta, name, append(append([]byte{'['}, bytes.Join(more, []byte{','})...), ']')))
		}
	}
	return edits
}

// deleteMeta takes away what is there; a list that is left empty goes.
func deleteMeta(doc *fhir.Document, given fhir.Node) []fhir.Edit {
	var edits []fhir.Edit
	for _, name := range metaLists {
		list, going := doc.Root().Get("meta").Get(name), metaKeys(given.Get(name))
		var gone []fhir.Edit
		for item := range list.Items() {
			if going[metaKey(item)] {
				gone = append(gone, fhir.Edit{Node: item})
			}
		}
		if len(gone) > 0 && len(gone) == list.Len() {
			gone = []fhir.Edit{{Node: list}}
		}
		edits = append(edits, gone...)
	}
	return edits
}
