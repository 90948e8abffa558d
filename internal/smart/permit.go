package smart

import (
	"slices"

	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Authorization is a verified token and what it may do. It does not change, and
// is shared by the requests that carry the token.
type Authorization struct {
	Claims Claims
	Scopes Scopes
	Launch Launch

	grants *kept[grantKey, grantMade] // of the Authority; nil: each is made anew
}

// grantKey is all that a Grant depends on, unless it has filters.
type grantKey struct {
	key    plan.HashKey
	base   string
	scope  string
	launch Launch
	form   Features
	bulk   bool
}

type grantMade struct {
	grant   *search.Grant
	refused []Refusal
}

// Grant is what the token may see and change of the resources of a store.
func (a *Authorization) Grant(w World) *search.Grant { return a.grant(w, false).grant }

// BulkGrant is what of it counts for bulk operations: system/ scopes without
// search parameters (HealthLake developer guide, "SMART V2.2 scopes": they do
// not apply to bulk, and patient/ and user/ scopes are refused there).
func (a *Authorization) BulkGrant(w World) *search.Grant { return a.grant(w, true).grant }

// Refused lists every scope of the token that grants nothing in this store, and
// why: for the log, and for people who wonder.
func (a *Authorization) Refused(w World) []Refusal {
	return slices.Concat(a.Scopes.Refused, a.grant(w, false).refused)
}

func (a *Authorization) grant(w World, bulk bool) grantMade {
	scopes := a.Scopes.Resources
	if bulk {
		scopes = slices.DeleteFunc(slices.Clone(scopes), func(s Scope) bool { return s.Context != System || len(s.Filter) > 0 })
	}
	// A filter may depend on the time.
	timeless := a.grants != nil && !slices.ContainsFunc(scopes, func(s Scope) bool { return len(s.Filter) > 0 })
	key := grantKey{w.Key, w.Base, a.Claims.Scope, a.Launch, a.Scopes.form, bulk}
	if timeless {
		if made, ok := a.grants.get(key, w.Now); ok {
			return made
		}
	}
	grant, refused := NewGrant(w, scopes, a.Launch)
	made := grantMade{grant, refused}
	if timeless {
		a.grants.put(key, made, forever)
	}
	return made
}

// pseudoTransaction is HealthLake's type for what an asynchronous transaction
// leaves: polling it needs read.
const pseudoTransaction = "Transaction"

// Permit is the Grant for one request, or fault.Forbidden where no scope speaks
// of its action on its type at all, so that the answer does not depend on what
// is stored. The action is the IAM action's name, the type that of the resources
// asked for: "" for requests over all types, "Transaction" for the poll of one.
// An action that is not listed is refused.
func (a *Authorization) Permit(w World, action, typ string) (*search.Grant, error) {
	row, known := actions[action]
	if !known {
		return nil, tooSmall("smart.Permit", "")
	}
	grant := a.Grant(w)
	if row.bulk {
		grant = a.BulkGrant(w)
	}
	if typ == pseudoTransaction {
		return grant, a.pollable()
	}
	for _, n := range row.needs {
		if !n.met(w.Registry, grant, typ) {
			return nil, tooSmall("smart.Permit", "")
		}
	}
	return grant, nil
}

func (a *Authorization) pollable() error {
	for _, s := range a.Scopes.Resources {
		_, patient := patientID(a.Launch.Patient)
		named := s.Type == AnyType || s.Type == pseudoTransaction
		if named && len(s.Filter) == 0 && s.Access&search.Read != 0 && (s.Context != Patient || patient) {
			return nil
		}
	}
	return tooSmall("smart.pollable", "")
}

func (n need) met(reg search.Registry, grant *search.Grant, typ string) bool {
	if n.typ != "" {
		typ = n.typ
	}
	if typ == "" || typ == someType {
		return slices.ContainsFunc(reg.Types(), func(t plan.Type) bool { return n.allowed(grant, t) })
	}
	t, ok := reg.Type(typ)
	if !ok {
		// Whoever may do it to any type learns that there is none of this name.
		return n.met(reg, grant, "")
	}
	return n.allowed(grant, t)
}

func (n need) allowed(grant *search.Grant, t plan.Type) bool {
	return slices.ContainsFunc(n.oneOf, func(access search.Access) bool {
		_, ok := grant.Where(t, access)
		return ok
	})
}

// Actions lists the actions that Permit knows, for tests over all routes.
func Actions() []string {
	var names []string
	for name := range actions {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// need is a condition of an action: one of some accesses to a type.
type need struct {
	typ   string // "" is the request's own type
	oneOf []search.Access
}

// someType is the need for an access to any type, whatever the request's own is.
const someType = "*"

// requirement is what an action needs: all of needs.
type requirement struct {
	bulk  bool // only system/ scopes without search parameters count
	needs []need
}

func on(typ string, oneOf ...search.Access) need { return need{typ, oneOf} }

func all(needs ...need) requirement { return requirement{needs: needs} }

func bulk(needs ...need) requirement { return requirement{bulk: true, needs: needs} }

// anything is the need to be let in at all: each entry, reference or resource is
// judged by the Grant.
var anything = on("", search.Create, search.Read, search.Update, search.Delete, search.Search)

// actions are the accesses that SMART App Launch 2.2 ("Scopes for requesting FHIR
// resources") asks for each interaction, and for operations what HealthLake's
// guide says of each, by the names of the Service Authorization Reference. Where
// the guide is silent the reading is ours: what the operation shows needs read,
// what it changes needs the write.
var actions = map[string]requirement{
	"GetCapabilities": all(),
	"Discovery":       all(),

	"CreateResource":           all(on("", search.Create)),
	"ReadResource":             all(on("", search.Read)),
	"VersionReadResource":      all(on("", search.Read)),
	"UpdateResource":           all(on("", search.Update)),
	"PatchResource":            all(on("", search.Update)),
	"DeleteResource":           all(on("", search.Delete)),
	"SearchWithGet":            all(on("", search.Search)),
	"SearchWithPost":           all(on("", search.Search)),
	"GetHistoryByResourceId":   all(on("", search.Read)),
	"GetHistoryByResourceType": all(on("", search.Search), on("", search.Read)),
	"GetFullHistory":           all(on("", search.Search), on("", search.Read)),
	"ProcessBundle":            all(anything),
	"SearchEverything":         all(on("", search.Read), on("", search.Search)),
	"ValidateResource":         all(anything),

	"ExpandValueSetWithGet":          all(on("ValueSet", search.Read)),
	"ExpandValueSetWithPost":         all(on("ValueSet", search.Read)),
	"LookupCodeSystemWithGet":        all(on("CodeSystem", search.Read)),
	"LookupCodeSystemWithPost":       all(on("CodeSystem", search.Read)),
	"TranslateConceptMapWithGet":     all(on("ConceptMap", search.Read)),
	"TranslateConceptMapWithPost":    all(on("ConceptMap", search.Read)),
	"GenerateDocumentWithGet":        all(on("Composition", search.Read)),
	"GenerateDocumentWithPost":       all(on("Composition", search.Read)),
	"QuestionnairePackage":           all(on("Questionnaire", search.Read), on("Library", search.Read), on("ValueSet", search.Read), on("Coverage", search.Read)),
	"InquirePreAuthClaim":            all(on("ClaimResponse", search.Read, search.Search)),
	"SubmitPreAuthClaim":             all(on("Claim", search.Create)),
	"MemberMatch":                    bulk(on("Patient", search.Read), on("Coverage", search.Read)),
	"MemberAdd":                      bulk(on("Group", search.Update), on("Patient", search.Read), on("Coverage", search.Read)),
	"MemberRemove":                   bulk(on("Group", search.Update)),
	"RetrieveAttributionStatus":      bulk(on("Group", search.Read), on("Patient", search.Read), on("Coverage", search.Read)),
	"ConfirmAttributionList":         bulk(on("Group", search.Update)),
	"StartFHIRBulkMemberMatchJob":    bulk(on("Patient", search.Read), on("Coverage", search.Read), on("Group", search.Create), on("Consent", search.Create)),
	"DescribeFHIRBulkMemberMatchJob": bulk(on("Group", search.Read)),

	// Of the Group that an export names nothing is given out, and Bulk Data clients
	// ask for scopes on what they export: the export judges its types, and patients.
	"StartFHIRExportJobWithPost":    bulk(on(someType, search.Read)),
	"StartFHIRExportJobWithGet":     bulk(on(someType, search.Read)),
	"DescribeFHIRExportJobWithGet":  bulk(on("", search.Read)),
	"CancelFHIRExportJobWithDelete": bulk(on("", search.Read)),
	"GetExportedFile":               bulk(on("", search.Read)),
	"StartFHIRImportJob":            bulk(on(someType, search.Create), on(someType, search.Update)),
	"DescribeFHIRImportJob":         bulk(on(someType, search.Create), on(someType, search.Update)),
	"StartFHIRBulkDeleteJob":        bulk(on("", search.Delete)),
	"DescribeFHIRBulkDeleteJob":     bulk(on("", search.Delete, search.Read)),
	"StartFHIRBulkPatchJob":         bulk(on("", search.Update), on("", search.Search, search.Read)),
	"DescribeFHIRBulkPatchJob":      bulk(on("", search.Read)),
}
