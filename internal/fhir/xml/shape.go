package xml

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// form is how an element is written.
type form uint8

const (
	formComplex   form = iota + 1 // members of its own
	formString                    // a primitive, a string in JSON
	formInteger                   // a primitive, a number in JSON without fraction
	formDecimal                   // a primitive, a number in JSON
	formBoolean                   // a primitive, true or false in JSON
	formAttribute                 // an attribute in XML, a string in JSON
	formNarrative                 // Narrative.div
	formResource                  // an element around a whole resource
)

func (f form) primitive() bool { return formString <= f && f <= formBoolean }

// field is one member of a type, a choice's expansions one by one.
type field struct {
	name     string // in XML and in JSON
	member   string // "name":
	sibling  string // "_name":
	typeName string
	order    int // place in the definition; a choice's expansions share it
	form     form
	array    bool
	content  atomic.Pointer[shape]
}

// shape finds the members of what a field holds: of a primitive, those of the
// object beside its value.
func (f *field) shape() *shape {
	if s := f.content.Load(); s != nil {
		return s
	}
	s := shapeOf(f.typeName)
	f.content.Store(s)
	return s
}

// slot is what a JSON member name stands for.
type slot struct {
	field   *field
	sibling bool // the name with _
}

// shape is one type, ready for both directions. It does not change once made.
type shape struct {
	typeName string
	resource bool
	fields   map[string]*field // by name
	byName   map[fhir.Name]slot
	attrs    []*field
}

// shapes holds the shapes made so far; types nobody sends cost nothing.
var shapes = struct {
	sync.RWMutex
	byType map[string]*shape
}{byType: map[string]*shape{}}

var nameResourceType = fhir.Intern("resourceType")

// shapeOf gives the shape of a type of R4. An unknown type has no members.
func shapeOf(typeName string) *shape {
	shapes.RLock()
	s := shapes.byType[typeName]
	shapes.RUnlock()
	if s != nil {
		return s
	}
	s = newShape(typeName)
	shapes.Lock()
	defer shapes.Unlock()
	if earlier := shapes.byType[typeName]; earlier != nil {
		return earlier
	}
	shapes.byType[typeName] = s
	return s
}

// resourceShape gives the shape of a concrete resource type.
func resourceShape(name []byte) (*shape, bool) {
	shapes.RLock()
	s := shapes.byType[string(name)]
	shapes.RUnlock()
	if s == nil {
		if _, ok := r4.TypeByName(string(name)); !ok {
			return nil, false
		}
		s = shapeOf(string(name))
	}
	return s, s.resource
}

func newShape(typeName string) *shape {
	s := &shape{typeName: typeName, fields: map[string]*field{}, byName: map[fhir.Name]slot{}}
	structure, ok := r4.StructureOf(typeName)
	if !ok {
		return s
	}
	s.resource = structure.Kind == r4.KindResource && !structure.Abstract
	for i, e := range structure.Elements {
		if structure.Kind == r4.KindPrimitive && e.Name == "value" {
			continue // written apart
		}
		if !e.IsChoice() {
			s.add(e, i)
			continue
		}
		for _, t := range e.Types {
			if x, ok := structure.Element(e.Choice + strings.ToUpper(t.Name[:1]) + t.Name[1:]); ok {
				s.add(x, i)
			}
		}
	}
	return s
}

func (s *shape) add(e *r4.ElementInfo, order int) {
	if e.Max == 0 {
		return
	}
	f := &field{
		name: e.Name, member: `"` + e.Name + `":`, sibling: `"_` + e.Name + `":`,
		typeName: e.Type, order: order, form: formOf(e), array: e.IsArray(),
	}
	s.fields[f.name] = f
	s.byName[fhir.Intern(f.name)] = slot{field: f}
	switch {
	case f.form == formAttribute:
		s.attrs = append(s.attrs, f)
	case f.form.primitive():
		s.byName[fhir.Intern("_"+f.name)] = slot{field: f, sibling: true}
	}
}

func formOf(e *r4.ElementInfo) form {
	switch {
	case e.XMLAttr:
		return formAttribute
	case e.Type == "Resource":
		return formResource
	case e.Type == "xhtml":
		return formNarrative
	}
	structure, ok := r4.StructureOf(e.Type)
	if !ok || structure.Kind != r4.KindPrimitive {
		return formComplex
	}
	switch structure.System {
	case "Integer":
		return formInteger
	case "Decimal":
		return formDecimal
	case "Boolean":
		return formBoolean
	}
	return formString
}

// slot finds what a member of an object is.
func (s *shape) slot(member fhir.Node) (slot, bool) {
	id := member.NameID()
	if id == 0 { // parsed before the name was interned, or known to nobody
		if id = fhir.LookupName(member.Name()); id == 0 {
			return slot{}, false
		}
	}
	found, ok := s.byName[id]
	return found, ok
}
