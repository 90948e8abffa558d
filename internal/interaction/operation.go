package interaction

import (
	"bytes"
	"context"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Operation is one extended operation (R4 operations.html): the unit in which
// they are offered, routed, authorized and stated. A further one is a further
// element of Operations.
type Operation struct {
	Name       string   // with its $
	Types      []string // the types it is offered on; nil: every one
	Levels     Level
	Action     string // IAM action
	PostAction string // IAM action of a POST, where it is another
	Definition string // canonical URL of its OperationDefinition
	Changes    bool   // it may change something: GET is refused
	// Run carries it out and gives the answer's JSON. Called by GET it changes
	// nothing.
	Run func(ctx context.Context, s *Session, req OperationRequest) ([]byte, error)
	// Start, instead of Run, begins a job that goes on behind the request.
	Start func(ctx context.Context, s *Session, req OperationRequest) (*Started, error)
}

// Started tells of a job that was begun (202).
type Started struct {
	Poll string // where it is asked about, below the store's base: "$erase/{id}"
	Body []byte // JSON
	FHIR bool   // Body is a resource
}

// Level is where an operation is called: several in an Operation, one in a
// request.
type Level uint8

// The levels of R4 (operations.html#executing).
const (
	OnSystem   Level = 1 << iota // [base]/$name
	OnType                       // [base]/[type]/$name
	OnInstance                   // [base]/[type]/[id]/$name
)

// OperationRequest is one call.
type OperationRequest struct {
	Type, ID string        // empty above their level
	Pairs    []search.Pair // parameters from the URL
	Body     []byte        // Parameters, or where the operation allows it a resource; may be empty
	Post     bool
	Match    Match // If-Match, of operations that change a resource
}

func (r OperationRequest) level() Level {
	switch {
	case r.ID != "":
		return OnInstance
	case r.Type != "":
		return OnType
	}
	return OnSystem
}

// pairs are the simple parameters of URL and body together.
func (r OperationRequest) pairs() ([]search.Pair, error) {
	more, err := readParameters(r.Body)
	return slices.Concat(r.Pairs, more), err
}

const definitions = "http://hl7.org/fhir/OperationDefinition/"

// bulkDefinitions are those of Bulk Data Access.
const bulkDefinitions = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"

// healthlakeDefinitions is for HealthLake's own operations, which have no
// published definition: names in the space of its extensions.
const healthlakeDefinitions = "http://healthlake.amazonaws.com/fhir/OperationDefinition/"

// Operations lists what is offered.
func Operations() []Operation { return slices.Clone(operations) }

var operations = []Operation{
	{Name: "$everything", Types: []string{"Patient"}, Levels: OnInstance, Action: "SearchEverything",
		Definition: definitions + "Patient-everything", Run: everything},
	{Name: "$everything", Types: []string{"Encounter"}, Levels: OnInstance, Action: "SearchEverything",
		Definition: definitions + "Encounter-everything", Run: everything},
	{Name: "$everything", Types: []string{"Group"}, Levels: OnInstance, Action: "SearchEverything",
		Definition: definitions + "Group-everything", Run: everything},
	{Name: "$document", Types: []string{"Composition"}, Levels: OnInstance,
		Action: "GenerateDocumentWithGet", PostAction: "GenerateDocumentWithPost",
		Definition: definitions + "Composition-document", Run: document},
	{Name: "$validate", Levels: OnType | OnInstance, Action: "ValidateResource",
		Definition: definitions + "Resource-validate", Run: validation},
	{Name: "$convert", Levels: OnSystem, Action: "ValidateResource", Definition: definitions + "Resource-convert", Run: convert},
	{Name: "$meta", Levels: OnSystem | OnType | OnInstance, Action: "ReadResource",
		Definition: definitions + "Resource-meta", Run: meta},
	{Name: "$meta-add", Levels: OnInstance, Action: "UpdateResource", Changes: true,
		Definition: definitions + "Resource-meta-add", Run: metaAdd},
	{Name: "$meta-delete", Levels: OnInstance, Action: "UpdateResource", Changes: true,
		Definition: definitions + "Resource-meta-delete", Run: metaDelete},
	{Name: "$export", Levels: OnSystem, Action: "StartFHIRExportJobWithGet", PostAction: "StartFHIRExportJobWithPost",
		Definition: bulkDefinitions + "export", Start: systemExport},
	{Name: "$export", Types: []string{"Patient"}, Levels: OnType, Action: "StartFHIRExportJobWithGet", PostAction: "StartFHIRExportJobWithPost",
		Definition: bulkDefinitions + "patient-export", Start: patientExport},
	{Name: "$export", Types: []string{"Group"}, Levels: OnInstance, Action: "StartFHIRExportJobWithGet", PostAction: "StartFHIRExportJobWithPost",
		Definition: bulkDefinitions + "group-export", Start: groupExport},
	{Name: "$import", Levels: OnSystem, Action: "StartFHIRImportJob", Changes: true,
		Definition: healthlakeDefinitions + "import", Start: importOperation},
	{Name: "$bulk-delete", Levels: OnType, Action: "StartFHIRBulkDeleteJob", Changes: true,
		Definition: healthlakeDefinitions + "bulk-delete", Start: bulkDelete},
	{Name: "$erase", Levels: OnInstance, Action: "DeleteResource", Changes: true,
		Definition: healthlakeDefinitions + "erase", Start: erase},
	{Name: "$purge", Types: []string{"Patient"}, Levels: OnInstance, Action: "StartFHIRBulkDeleteJob", Changes: true,
		Definition: healthlakeDefinitions + "purge", Start: purge},
	{Name: "$bulk-patch", Levels: OnSystem, Action: "StartFHIRBulkPatchJob", Changes: true,
		Definition: healthlakeDefinitions + "bulk-patch", Start: bulkPatch},
}

// FindOperation finds an operation at a level of a type.
func FindOperation(level Level, typ, name string) (*Operation, bool) {
	for i := range operations {
		o := &operations[i]
		if o.Name == name && o.Levels&level != 0 && (o.Types == nil || slices.Contains(o.Types, typ)) {
			return o, true
		}
	}
	return nil, false
}

// Operate carries out an operation, or starts it: then the answer is nil and
// there is a Started.
func (s *Session) Operate(ctx context.Context, name string, req OperationRequest) ([]byte, *Started, error) {
	o, ok := FindOperation(req.level(), req.Type, name)
	if !ok {
		return nil, nil, &fault.Error{Kind: fault.NotFound, Op: "interaction.Operate", Subject: cutText(name), Detail: "no such operation on " + cutText(req.Type)}
	}
	if o.Changes && !req.Post {
		return nil, nil, &fault.Error{Kind: fault.MethodNotAllowed, Op: "interaction.Operate", Subject: "POST", Detail: name + " changes the resource"}
	}
	if o.Start != nil {
		started, err := o.Start(ctx, s, req)
		return nil, started, err
	}
	body, err := o.Run(ctx, s, req)
	return body, nil, err
}

// convert gives back the resource that came, as the body or as the parameter
// input (R4 resource-operation-convert.html): the wire reads and writes the forms.
func convert(_ context.Context, s *Session, req OperationRequest) ([]byte, error) {
	if len(req.Body) == 0 {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.convert", Subject: "input", Detail: "it is missing", Hint: "send a resource by POST"}
	}
	doc, err := fhir.Parse(req.Body)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	resource := doc.Root()
	if first := resource.Get("parameter").Index(0); resource.ResourceType() == "Parameters" && first.Get("name").Is("input") {
		resource = first.Get("resource")
	}
	name := resource.ResourceType()
	if _, known := s.Registry.Type(name); !known {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.convert", Subject: "resourceType", Detail: "it names no resource type of R4"}
	}
	return bytes.Clone(resource.Raw()), nil
}

// readParameters takes simple parameters out of a Parameters resource (R4
// parameters.html); an empty body has none.
func readParameters(body []byte) ([]search.Pair, error) {
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
			return nil, &fault.Error{Kind: fault.Invalid, Op: "interaction.readParameters", Subject: p.Path(), Detail: "not a name with one simple value"}
		}
		pairs = append(pairs, search.Pair{Name: p.Get("name").Text(), Value: value})
	}
	return pairs, nil
}
