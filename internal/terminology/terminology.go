// Package terminology answers what search asks of code systems and value sets:
// which codings a value set has, and which lie above or below another.
//
//	Source   resource type + canonical → the JSON of a ValueSet or CodeSystem
//	Terms    Members (:in, :not-in), Below (:below), Above (:above)
//
// Definitions come from a Source, as a rule the data store itself, and where it
// has none from those that R4 ships (Shipped). A definition is read as R4 has
// it: compose with include, exclude, filters and value sets that others are made
// of, or, where there is no compose, the expansion.
//
// A code system whose content is not at hand (LOINC, SNOMED CT) can still be
// included whole: its codings are then given as one Coding without a code, which
// stands for every code of the system. What would need its hierarchy is refused.
//
// Spec: https://hl7.org/fhir/R4/valueset.html#compositions and
// https://hl7.org/fhir/R4/codesystem.html#hierachy.
package terminology

import (
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
)

// The resource types that a Source is asked for.
const (
	typeValueSet   = "ValueSet"
	typeCodeSystem = "CodeSystem"
)

// Bounds of one question: how many codings an expansion may have, and how deep
// value sets may include value sets.
const (
	MaxCodings = 10_000
	MaxDepth   = 16
)

// Source finds definitions.
type Source interface {
	// Find gives the JSON of the resource of this type that a canonical
	// ("url" or "url|version") or a reference ("ValueSet/id") names; nil where
	// there is none.
	Find(resourceType, canonical string) ([]byte, error)
}

// Terms answers from a Source and, behind it, from R4's own definitions. Its
// answers are as fresh as the Source's. Not for concurrent use.
type Terms struct {
	source  Source
	systems map[string]*codeSystem // as read in this question; nil: not at hand
}

// New answers from a source; nil is R4's own definitions alone.
func New(source Source) *Terms { return &Terms{source: source, systems: map[string]*codeSystem{}} }

// Members implements search.Terminology: the codings of a value set, in order.
// A value set that is not there is fault.Invalid, one that is too large
// fault.TooCostly, and one that needs what is not at hand fault.NotSupported.
func (t *Terms) Members(valueSet string) ([]search.Coding, error) {
	s, err := t.expand(valueSet, 0)
	if err != nil {
		return nil, err
	}
	return s.codings(), nil
}

// Below implements search.Terminology: the coding and all that its code system
// has beneath it.
func (t *Terms) Below(c search.Coding) ([]search.Coding, error) {
	return t.related(c, (*codeSystem).below)
}

// Above implements search.Terminology: the coding and all that its code system
// has over it.
func (t *Terms) Above(c search.Coding) ([]search.Coding, error) {
	return t.related(c, (*codeSystem).above)
}

func (t *Terms) related(c search.Coding, walk func(*codeSystem, string) map[string]bool) ([]search.Coding, error) {
	if c.System == "" || c.Code == "" {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "terminology.related", Subject: c.System + "|" + c.Code,
			Detail: "a hierarchy belongs to one code system", Hint: "give the value as system|code"}
	}
	system, err := t.needSystem(c.System)
	if err != nil {
		return nil, err
	}
	s := newSet()
	s.codes[c] = true
	for code := range walk(system, c.Code) {
		s.codes[search.Coding{System: c.System, Code: code}] = true
	}
	if err := s.bounded(); err != nil {
		return nil, err
	}
	return s.codings(), nil
}

// find asks the source, then R4.
func (t *Terms) find(resourceType, canonical string) ([]byte, error) {
	if t.source != nil {
		raw, err := t.source.Find(resourceType, canonical)
		if raw != nil || err != nil {
			return raw, err
		}
	}
	return Shipped(resourceType, canonical)
}

// set is a set of codings; systems are in it whole.
type set struct {
	codes   map[search.Coding]bool
	systems map[string]bool
}

func newSet() *set { return &set{map[search.Coding]bool{}, map[string]bool{}} }

func (s *set) has(c search.Coding) bool { return s.codes[c] || s.systems[c.System] }

func (s *set) add(of *set) {
	for c := range of.codes {
		s.codes[c] = true
	}
	for system := range of.systems {
		s.systems[system] = true
	}
}

// both is what two sets share.
func both(a, b *set) *set {
	shared := newSet()
	for c := range a.codes {
		shared.codes[c] = b.has(c)
	}
	for c := range b.codes {
		shared.codes[c] = a.has(c)
	}
	for system := range a.systems {
		shared.systems[system] = b.systems[system]
	}
	shared.drop()
	return shared
}

// drop forgets what is false.
func (s *set) drop() {
	for c, in := range s.codes {
		if !in {
			delete(s.codes, c)
		}
	}
	for system, in := range s.systems {
		if !in {
			delete(s.systems, system)
		}
	}
}

// subtract takes codings out. Single codes cannot be taken out of a system that
// is in the set whole.
func (s *set) subtract(of *set) error {
	for c := range of.codes {
		if s.systems[c.System] && !of.systems[c.System] {
			return notAtHand(c.System)
		}
	}
	for c := range s.codes {
		s.codes[c] = !of.has(c)
	}
	for system := range of.systems {
		delete(s.systems, system)
	}
	s.drop()
	return nil
}

func (s *set) bounded() error {
	if len(s.codes) <= MaxCodings {
		return nil
	}
	return &fault.Error{Kind: fault.TooCostly, Op: "terminology.bounded", Detail: "the expansion has more codes than a search may ask for",
		Hint: "search by a smaller value set, or by the codes themselves"}
}

// codings are the set in order; a system that is in it whole is one Coding
// without a code.
func (s *set) codings() []search.Coding {
	all := make([]search.Coding, 0, len(s.codes)+len(s.systems))
	for system := range s.systems {
		all = append(all, search.Coding{System: system})
	}
	for c := range s.codes {
		if !s.systems[c.System] {
			all = append(all, c)
		}
	}
	slices.SortFunc(all, func(a, b search.Coding) int {
		if n := strings.Compare(a.System, b.System); n != 0 {
			return n
		}
		return strings.Compare(a.Code, b.Code)
	})
	return all
}

func notAtHand(system string) error {
	return &fault.Error{Kind: fault.NotSupported, Op: "terminology", Subject: system, Detail: "the codes of this code system are not at hand",
		Hint: "store its CodeSystem in the data store"}
}

var _ search.Terminology = (*Terms)(nil)
