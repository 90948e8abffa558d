package interaction

import (
	"context"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
)

// check is a $validate as understood.
type check struct {
	resource      fhir.Node // Absent: the stored one
	mode, profile string
}

// validation is $validate (R4 resource-operation-validate.html): the issues of a
// resource as an OperationOutcome, whether it could be stored or not. On a
// resource without a body it looks at what is stored.
func validation(ctx context.Context, s *Session, req OperationRequest) ([]byte, error) {
	if s.Validator == nil {
		return nil, &fault.Error{Kind: fault.NotSupported, Op: "interaction.validation", Detail: "this server does not validate"}
	}
	if _, err := s.typ(req.Type); err != nil {
		return nil, err
	}
	c, err := readCheck(req)
	if err != nil {
		return nil, err
	}
	if base := "http://hl7.org/fhir/StructureDefinition/" + req.Type; c.profile != "" && strings.Split(c.profile, "|")[0] != base {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "interaction.validation", Subject: "profile", Detail: "this profile is not loaded"}
	}
	if req.ID != "" && (!c.resource.Exists() || c.mode == "delete") {
		v, err := s.Read(ctx, req.Type, req.ID)
		if err != nil {
			return nil, err
		}
		if c.mode == "delete" {
			return s.checkDelete(req)
		}
		doc, err := fhir.ParseStored(v.Resource())
		if err != nil {
			return nil, fault.Wrap(fault.Internal, "interaction.validation", err)
		}
		c.resource = doc.Root()
	}
	if err := c.holds(req); err != nil {
		return nil, err
	}
	issues := s.Validator.Validate(ctx, c.resource, s.Level)
	if len(issues) == 0 {
		return fhir.AppendOutcome(nil, fhir.OutcomeIssue{Severity: "information", Code: "informational", Diagnostics: "Validation successful"}), nil
	}
	return outcomeOf(issues), nil
}

// checkDelete says whether the resource could be deleted.
func (s *Session) checkDelete(req OperationRequest) ([]byte, error) {
	key, err := s.key(req.Type, req.ID)
	if err == nil {
		_, err = s.deleteOp(key, Match{})
	}
	if err != nil {
		return nil, err
	}
	return fhir.AppendOutcome(nil, fhir.OutcomeIssue{Severity: "information", Code: "informational", Diagnostics: "The resource can be deleted"}), nil
}

// readCheck takes the parameters from the URL and from the body, which is the
// resource itself or Parameters that hold it.
func readCheck(req OperationRequest) (c check, err error) {
	for _, p := range req.Pairs {
		if err := c.parameter(p); err != nil {
			return c, err
		}
	}
	if len(req.Body) == 0 {
		return c, nil
	}
	doc, err := fhir.Parse(req.Body)
	if err != nil {
		return c, err
	}
	if doc.ResourceType() != "Parameters" {
		c.resource = doc.Root()
		return c, nil
	}
	for p := range doc.Root().Get("parameter").Items() {
		if p.Get("name").Is("resource") {
			c.resource = p.Get("resource")
			continue
		}
		value, _ := simpleValue(p)
		if err := c.parameter(search.Pair{Name: p.Get("name").Text(), Value: value}); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *check) parameter(p search.Pair) error {
	switch p.Name {
	case "mode":
		c.mode = p.Value
	case "profile":
		c.profile = p.Value
	case "_format", "_pretty":
	default:
		return invalidPair(p, "not a parameter of $validate; it takes resource, mode and profile")
	}
	return nil
}

// holds checks the question itself: the mode, and what it asks of the resource.
func (c *check) holds(req OperationRequest) error {
	switch c.mode {
	case "", "create", "update", "profile":
	default:
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.validation", Subject: "mode", Detail: "it is create, update, profile, or on a resource delete"}
	}
	if !c.resource.Exists() {
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.validation", Subject: "resource", Detail: "it is missing"}
	}
	if err := checkType(c.resource, req.Type); err != nil {
		return err
	}
	if id := c.resource.Get("id").Text(); c.mode == "update" && req.ID != "" && id != req.ID {
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.validation", Subject: "id", Detail: "an update needs the id of the URL"}
	}
	return nil
}
