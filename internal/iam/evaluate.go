package iam

// Outcome is what policies say of a request.
type Outcome uint8

// The outcomes. Nothing said is a refusal, and one that another policy could
// lift; a Deny none can.
const (
	NotAllowed Outcome = iota
	Allowed
	Denied
)

func (o Outcome) String() string {
	return [...]string{"not allowed", "allowed", "explicitly denied"}[o]
}

// Decision is an Outcome with the statement that brought it about, empty where
// none did.
type Decision struct {
	Outcome Outcome
	Policy  string // the policy's name
	Sid     string // the statement's, where it has one
}

// evaluate asks the policies of one principal (IAM User Guide, "Policy
// evaluation logic"): a statement that denies wins over any that allows, and
// without one that allows the request is refused.
func evaluate(policies []*Document, e *environment) Decision {
	var decision Decision
	e.action = foldText(e.Action)
	for _, d := range policies {
		for i := range d.statements {
			s := &d.statements[i]
			if decision.Outcome == Allowed && s.effect == Allow || !s.applies(e) {
				continue
			}
			decision = Decision{Allowed, d.name, s.sid}
			if s.effect == Deny {
				decision.Outcome = Denied
				return decision
			}
		}
	}
	return decision
}

// both is what a session may: what its identity's policies and its own say.
func both(identity, session Decision) Decision {
	switch {
	case identity.Outcome == Denied:
		return identity
	case session.Outcome == Denied || identity.Outcome == Allowed:
		return session
	}
	return identity
}

// applies reports whether the statement is about the request.
func (s *statement) applies(e *environment) bool {
	e.denying = s.effect == Deny
	if !s.meansAction(e.action) || !s.meansResource(e) {
		return false
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(e) {
			return false
		}
	}
	return true
}

// meansAction compares the action's folded name.
func (s *statement) meansAction(folded string) bool {
	for _, g := range s.actions {
		if g.match(folded) {
			return !s.notActions
		}
	}
	return s.notActions
}

// meansResource compares the resource. A pattern whose variable has no value
// matches nothing; under NotResource an allowing statement then does not apply.
func (s *statement) meansResource(e *environment) bool {
	if s.resources == nil { // a trust policy
		return true
	}
	doubt := false
	for _, t := range s.resources {
		g, ok := t.expand(e)
		if ok && g.match(e.Resource) {
			return !s.notResources
		}
		doubt = doubt || !ok
	}
	return s.notResources && (!doubt || e.denying)
}
