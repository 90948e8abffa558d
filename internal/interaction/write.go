package interaction

import (
	"cmp"
	"context"
	"errors"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// MaxResource bounds one resource that is created or updated, in bytes of JSON,
// where the Session says nothing; the content of a Binary is a quarter less.
// HealthLake refuses bodies over 5 MB (413).
const MaxResource = 5 << 20

// maxRaces bounds how often a conditional write looks again when others wrote
// in between.
const maxRaces = 16

// notStored are types that are never kept as resources of their own: HealthLake
// refuses them (devguide, "Supported resource types"), R4 gives Parameters no
// REST interactions.
var notStored = map[string]bool{"OperationOutcome": true, "Parameters": true}

// writtenOnce are types whose resources are created and never changed
// (HealthLake: AuditEvent has create and read only).
var writtenOnce = map[string]bool{"AuditEvent": true}

// changeable refuses the changing of what is written once.
func (s *Session) changeable(t plan.Type) error {
	if name := s.Registry.Name(t); writtenOnce[name] {
		return &fault.Error{Kind: fault.MethodNotAllowed, Op: "interaction.changeable", Subject: "GET", Detail: name + " is created and read only"}
	}
	return nil
}

// parse reads a resource of this type.
func (s *Session) parse(body []byte, typ string) (*fhir.Document, error) {
	if most := cmp.Or(s.Rules.MaxResource, MaxResource); len(body) > most {
		return nil, fault.New(fault.TooLarge, "interaction.parse", "the resource is larger than %d bytes", most)
	}
	doc, err := fhir.Parse(body)
	if err != nil {
		return nil, err
	}
	return doc, checkType(doc.Root(), typ)
}

func checkType(root fhir.Node, typ string) error {
	if root.Kind() != fhir.Object {
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.parse", Detail: "the body is not a JSON object"}
	}
	switch is := root.ResourceType(); is {
	case typ:
		return nil
	case "":
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.parse", Subject: "resourceType", Detail: "it is missing"}
	default:
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.parse", Subject: "resourceType", Detail: "it is " + is + ", not " + typ}
	}
}

// put makes the op that stores a resource under a key, and gives the issues of
// the resource that do not forbid it.
func (s *Session) put(ctx context.Context, key plan.Key, doc *fhir.Document, tag byte, conditions ...store.Condition) (store.Op, []fault.Issue, error) {
	doc, issues, err := s.valid(ctx, doc)
	if err != nil {
		return store.Op{}, nil, err
	}
	stored, err := fhir.Store(doc)
	if err != nil {
		return store.Op{}, nil, err
	}
	entries, err := s.Extractor.Extract(key, doc.Root())
	if err != nil {
		return store.Op{}, nil, err
	}
	return store.Op{Kind: store.Put, Key: key, Body: stored, Entries: entries, Tag: tag, If: conditions}, issues, nil
}

// granted refuses a write that the grant does not allow, and gives the condition
// that the resource as it stands must meet; nil is none.
func (s *Session) granted(t plan.Type, access search.Access) (plan.Node, error) {
	where, ok := s.Grant.Where(t, access)
	if !ok {
		return nil, &fault.Error{Kind: fault.Forbidden, Op: "interaction.granted", Subject: s.Registry.Name(t)}
	}
	return where, nil
}

// made is the version that an op made.
func (s *Session) made(op store.Op, out store.Outcome) *Version {
	v := &Version{
		Type: s.Registry.Name(op.Key.Type), ID: op.Key.ID, Number: out.Version, Updated: out.Updated,
		Deleted: op.Kind == store.Delete, Created: out.Created, Changed: out.Changed, stored: op.Body,
	}
	s.touched(audit.Target{Type: v.Type, ID: v.ID, Version: v.Number})
	return v
}

func unmet(err error) (*store.Unmet, bool) { return errors.AsType[*store.Unmet](err) }

// raced is what a conditional write answers that lost maxRaces times in a row.
func raced() error {
	return &fault.Error{Kind: fault.Conflict, Op: "interaction", Detail: "other writers kept changing what the condition matches", Hint: "try again"}
}
