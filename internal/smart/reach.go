package smart

import (
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// reach is whose data a scope shows: some patients, and what belongs to them.
type reach struct {
	World
	patient plan.Type // the type Patient
	// patients is the condition on a Patient to be one of them.
	patients plan.Node
	// linked lets further Patients be read that are linked to one of them, as
	// the compartment definition has it.
	linked bool
	// points is the condition to refer to one of them by one of params.
	points func(params []*search.Param) plan.Node
	// self is the user's own resource, when it is neither a Patient nor of an
	// open type: it may be read.
	self plan.Key
}

// reachPatient is one patient.
func (g *granting) reachPatient(id string) (*reach, string) {
	patient, ok := g.Registry.Type("Patient")
	if !ok {
		return nil, "the data store knows no patients"
	}
	key := plan.Key{Type: patient, ID: id}
	return &reach{
		World: g.World, patient: patient, linked: true,
		patients: plan.IDs{IDs: []string{id}},
		points: func(params []*search.Param) plan.Node {
			return search.PointingTo(g.Key, params, []plan.Key{key})
		},
	}, ""
}

// reachUser is the patients of a user (HealthLake developer guide, "Fine-grained
// authorization"): a Practitioner's are those that name them as
// generalPractitioner; a Patient's are themselves, and as a RelatedPerson's
// those whose link names the user.
func (g *granting) reachUser(fhirUser string) (*reach, string) {
	user, ok := g.userKey(fhirUser)
	if !ok {
		return nil, "the token's fhirUser is missing or not a resource of this data store"
	}
	patient, _ := g.Registry.Type("Patient")
	r := &reach{World: g.World, patient: patient}
	switch g.Registry.Name(user.Type) {
	case "Practitioner":
		r.patients = g.pointing(patient, "general-practitioner", user)
	case "Patient":
		r.patients = plan.Or{plan.IDs{IDs: []string{user.ID}}, g.pointing(patient, "link", user)}
	case "RelatedPerson":
		r.patients, r.self = g.pointing(patient, "link", user), user
	default:
		return nil, "fine-grained authorization knows users that are Practitioner, Patient or RelatedPerson"
	}
	r.patients = search.Simplify(r.patients)
	r.points = func(params []*search.Param) plan.Node {
		return r.chain(params, plan.Arm{Type: patient, Where: r.patients})
	}
	return r, ""
}

// pointing is the condition on a type to refer to key by a parameter; nothing
// meets it where the type has no such parameter.
func (w World) pointing(t plan.Type, code string, key plan.Key) plan.Node {
	param, ok := w.Registry.Param(t, code)
	if !ok {
		return plan.Or{}
	}
	return search.PointingTo(w.Key, []*search.Param{param}, []plan.Key{key})
}

// userKey reads a fhirUser claim: a relative reference, or an absolute one below
// the store's own base.
func (g *granting) userKey(fhirUser string) (plan.Key, bool) {
	name, id, found := strings.Cut(strings.TrimPrefix(fhirUser, slashed(g.Base)), "/")
	t, known := g.Registry.Type(name)
	return plan.Key{Type: t, ID: id}, found && known && fhir.ValidID(id)
}

// chain is the condition to refer, by one of params, to a resource of arm.
func (r *reach) chain(params []*search.Param, arm plan.Arm) plan.Node {
	c := plan.Chain{To: []plan.Arm{arm}}
	for _, p := range params {
		if refers(p, arm.Type) {
			c.Params = append(c.Params, p.Columns(search.Main)...)
		}
	}
	if len(c.Params) == 0 {
		return plan.Or{}
	}
	return c
}

// refers reports whether a parameter may point to a type.
func refers(p *search.Param, t plan.Type) bool {
	return p.Kind == search.KindReference && (len(p.Targets) == 0 || slices.Contains(p.Targets, t))
}

// readable is the condition under which a resource of a type may be read and
// searched.
func (r *reach) readable(t plan.Type) plan.Node {
	name := r.Registry.Name(t)
	if slices.Contains(openTypes, name) {
		return nil
	}
	any := plan.Or{r.compartment(t), r.boundBy(t, name)}
	if t == r.patient {
		any = append(any, r.patients)
	}
	if r.self.ID != "" && t == r.self.Type {
		any = append(any, plan.IDs{IDs: []string{r.self.ID}})
	}
	return search.Simplify(any)
}

// compartment is the condition to be in the compartment of one of the patients.
func (r *reach) compartment(t plan.Type) plan.Node {
	if shutTypes[r.Registry.Name(t)] || t == r.patient && !r.linked {
		return plan.Or{}
	}
	params, _ := r.Registry.Compartment(r.patient, t)
	return search.Simplify(r.points(params))
}

// boundBy is the condition of boundTypes: to name one of the patients, or by a
// Binary's security context what is in the compartment of one.
func (r *reach) boundBy(t plan.Type, name string) plan.Node {
	code, bound := boundTypes[name]
	if !bound {
		return plan.Or{}
	}
	param, ok := r.Registry.Param(t, code)
	if !ok {
		return plan.Or{}
	}
	any := plan.Or{r.points([]*search.Param{param})}
	if name != "Binary" {
		return any
	}
	for _, target := range r.Registry.Types() {
		if where := r.compartment(target); !isFalse(where) {
			any = append(any, r.chain([]*search.Param{param}, plan.Arm{Type: target, Where: where}))
		}
	}
	return any
}

// writable is the condition that a resource must meet, before and after, to be
// written.
func (r *reach) writable(t plan.Type) plan.Node {
	if t == r.patient {
		return r.patients
	}
	inside := r.compartment(t)
	if isFalse(inside) {
		return inside
	}
	return plan.And{inside, r.ownRecord(t)}
}

// ownRecord is the condition not to be in the record of somebody else.
func (r *reach) ownRecord(t plan.Type) plan.Node {
	for _, code := range principals {
		param, ok := r.Registry.Param(t, code)
		if !ok || !refers(param, r.patient) {
			continue
		}
		return plan.Or{r.points([]*search.Param{param}), r.missing(t, param)}
	}
	return nil
}

// missing is the condition to have no value of a parameter.
func (r *reach) missing(t plan.Type, param *search.Param) plan.Node {
	q := &search.Query{Types: []plan.Type{t}, Clauses: []search.Clause{{On: []search.On{{Type: t, Cond: search.Missing{Param: param}}}}}}
	node, err := (&granting{World: r.World}).compile(q)
	if err != nil {
		return plan.Or{} // closed
	}
	return node
}

func isFalse(n plan.Node) bool {
	or, ok := n.(plan.Or)
	return ok && len(or) == 0
}
