package validate

import (
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhirpath"
)

// FHIRPath evaluates constraints with package fhirpath. It is what a Validator
// uses when Options name nothing else.
func FHIRPath() Constraints { return pathConstraints{} }

// PresenceOnly evaluates no constraints: those remain that follow from which
// members are there, which are most.
func PresenceOnly() Constraints { return noConstraints{} }

// constraintLimits bound one evaluation. The costliest invariants of R4 visit
// every element a few times (csd-1, que-2, bdl-7), and no resource within the
// wires' bounds has more than some hundred thousand.
var constraintLimits = fhirpath.Limits{MaxSteps: 4_000_000, MaxItems: 1_000_000}

type pathConstraints struct{}

// Compile reads one expression.
func (pathConstraints) Compile(expression string) (Constraint, error) {
	x, err := fhirpath.Compile(expression)
	if err != nil {
		return nil, err
	}
	return pathConstraint{x}, nil
}

type pathConstraint struct{ expr *fhirpath.Expr }

// Broken is true when the expression gives false. One item that is no boolean
// stands for true (FHIRPath N1, section 4.5).
func (c pathConstraint) Broken(on Focus) (bool, error) {
	env := fhirpath.Env{Type: on.Type, Resource: on.Resource, RootResource: on.Root, Limits: constraintLimits}
	var few [2]fhirpath.Value
	values, err := c.expr.Append(few[:0], &env, on.Value)
	if err != nil || len(values) == 0 {
		return false, err
	}
	if len(values) > 1 {
		return false, fault.New(fault.Invalid, "validate.Broken", "%d items where a truth is expected", len(values))
	}
	truth, known := values[0].Bool()
	return known && !truth, nil
}

type noConstraints struct{}

// Compile makes a constraint that is never broken.
func (noConstraints) Compile(string) (Constraint, error) { return noConstraint{}, nil }

type noConstraint struct{}

// Broken is false.
func (noConstraint) Broken(Focus) (bool, error) { return false, nil }
