package interaction

import (
	"context"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Operation is one extended operation (R4 operations.html): the unit in which
// they are offered, routed, authorized and stated. A further one is a further
// element of Operations.
type Operation struct {
	Name       string   // with its $
	Types      []string // the types it is offered on
	Action     string   // IAM action
	Definition string   // canonical URL of its OperationDefinition
	// Run carries it out on one resource and gives the answer's JSON. It changes
	// nothing: it may be called by GET.
	Run func(ctx context.Context, s *Session, req OperationRequest) ([]byte, error)
}

// OperationRequest is one call.
type OperationRequest struct {
	Type, ID string
	Pairs    []search.Pair // parameters, from the URL or a Parameters resource
}

// Operations lists what is offered on single resources.
var Operations = []Operation{
	{Name: "$everything", Types: []string{"Patient"}, Action: "SearchEverything",
		Definition: "http://hl7.org/fhir/OperationDefinition/Patient-everything", Run: everything},
	{Name: "$everything", Types: []string{"Encounter"}, Action: "SearchEverything",
		Definition: "http://hl7.org/fhir/OperationDefinition/Encounter-everything", Run: everything},
}

// FindOperation finds an operation on a type's resources.
func FindOperation(typ, name string) (*Operation, bool) {
	i := slices.IndexFunc(Operations, func(o Operation) bool { return o.Name == name && slices.Contains(o.Types, typ) })
	if i < 0 {
		return nil, false
	}
	return &Operations[i], true
}

// Operate carries out an operation on one resource.
func (s *Session) Operate(ctx context.Context, name string, req OperationRequest) ([]byte, error) {
	o, ok := FindOperation(req.Type, name)
	if !ok {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "interaction.Operate", Subject: cutText(name), Detail: "no such operation on " + cutText(req.Type)}
	}
	return o.Run(ctx, s, req)
}

// ReadParameters takes simple parameters out of a Parameters resource (R4
// parameters.html); an empty body has none.
func ReadParameters(body []byte) ([]search.Pair, error) {
	if len(body) == 0 {
		return nil, nil
	}
	doc, err := parseParameters(body)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	var pairs []search.Pair
	for p := range doc.Root().Get("parameter").Items() {
		value, ok := simpleValue(p)
		if !ok {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.ReadParameters", Subject: p.Path(), Detail: "not a name with one simple value"}
		}
		pairs = append(pairs, search.Pair{Name: p.Get("name").Text(), Value: value})
	}
	return pairs, nil
}
