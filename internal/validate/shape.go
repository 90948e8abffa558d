package validate

import (
	"fmt"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// shape is a type as the walk needs it. It does not change once the compile of
// which it is part has ended.
type shape struct {
	name     string
	resource bool
	// extras marks the object beside a primitive ("_birthDate"): id and
	// extension of the primitive.
	extras   bool
	slots    []slot
	index    []uint16 // open hash table from fhir.Name to 1+slot; its length is a power of two
	required uint64   // bits of the elements with a minimum of one
	bits     []*r4.ElementInfo
	rules    []rule
	period   bool // Period, whose per-1 is in code
}

// maxElements is the most elements a type may have: one bit of a word each.
// ActivityDefinition has the most in R4, 54.
const maxElements = 64

// form is what a slot's value is in JSON.
type form uint8

const (
	formPrimitive form = iota
	formObject
	formResource  // any resource: contained, Bundle.entry.resource
	formExtras    // id and extension beside a primitive
	formTypeName  // resourceType
	formForbidden // an element of maximum zero
)

// slot is one member that JSON may have in an object of the shape.
type slot struct {
	name      fhir.Name
	bit       uint8
	form      form
	array     bool
	choice    bool
	contained bool
	primitive primitive
	pair      fhir.Name // of a primitive its extras' name, and the other way round
	shape     *shape    // of formObject and formExtras
	codes     codeSet   // required binding; nil when there is none
	targets   *targets  // of a Reference; nil allows any type
	rules     []rule    // invariants stated on this element
	element   *r4.ElementInfo
}

// find gives the slot of a member, nil when the type has none of that name.
func (s *shape) find(c fhir.Node) *slot {
	name := c.NameID()
	if name == 0 { // nobody knew the name when the document was parsed
		if name = fhir.LookupName(c.Name()); name == 0 {
			return nil
		}
	}
	mask := uint32(len(s.index) - 1)
	for i := hashName(name) & mask; s.index[i] != 0; i = (i + 1) & mask {
		if sl := &s.slots[s.index[i]-1]; sl.name == name {
			return sl
		}
	}
	return nil
}

// hashName spreads the numbers of names, which lie close together.
func hashName(name fhir.Name) uint32 { return uint32(name) * 0x9e3779b1 >> 16 }

func (s *shape) buildIndex() {
	size := 4
	for size < 2*len(s.slots) {
		size *= 2
	}
	s.index = make([]uint16, size)
	mask := uint32(size - 1)
	for at := range s.slots {
		i := hashName(s.slots[at].name) & mask
		for s.index[i] != 0 {
			i = (i + 1) & mask
		}
		s.index[i] = uint16(at + 1)
	}
}

// resourceShape gives the table of a resource type, compiling it at first use.
func (v *Validator) resourceShape(id r4.TypeID) *shape {
	if s := (*v.tables.Load())[id]; s != nil {
		return s
	}
	v.compile.Lock()
	defer v.compile.Unlock()
	old := *v.tables.Load()
	if s := old[id]; s != nil {
		return s
	}
	s := v.shapeOf(r4.TypeName(id))
	tables := append([]*shape(nil), old...)
	tables[id] = s
	v.tables.Store(&tables)
	return s
}

// shapeOf compiles a type and all that it is made of, resources excepted, which
// are found by their resourceType. compile is held.
func (v *Validator) shapeOf(typeName string) *shape {
	if s := v.shapes[typeName]; s != nil {
		return s
	}
	structure, ok := r4.StructureOf(typeName)
	if !ok {
		panic("validate: R4's tables name a type they do not describe: " + typeName)
	}
	s := &shape{name: typeName, resource: structure.Kind == r4.KindResource}
	s.extras = structure.Kind == r4.KindPrimitive
	v.shapes[typeName] = s // before the elements: types hold themselves
	if s.resource {
		s.slots = append(s.slots, slot{name: nameResourceType, form: formTypeName, bit: noBit})
	}
	for _, e := range structure.Elements {
		v.addElement(s, structure, e)
	}
	s.buildIndex()
	s.rules = v.rulesOf(s, structure.Invariants)
	s.period = typeName == "Period"
	return s
}

// noBit is the bit of members that are no element.
const noBit = maxElements - 1

func (v *Validator) addElement(s *shape, structure *r4.Structure, e *r4.ElementInfo) {
	if strings.HasPrefix(e.Type, "System.") {
		return // a primitive's value stands in JSON without a name
	}
	bit := len(s.bits)
	if bit >= noBit {
		panic(fmt.Sprintf("validate: %s has more than %d elements", s.name, noBit))
	}
	s.bits = append(s.bits, e)
	if e.Min > 0 && !s.extras {
		s.required |= 1 << bit
	}
	if !e.IsChoice() {
		v.addSlots(s, e, uint8(bit))
		return
	}
	for _, t := range e.Types {
		if x, ok := structure.Element(e.Choice + upperFirst(t.Name)); ok {
			v.addSlots(s, x, uint8(bit))
		}
	}
}

func upperFirst(name string) string { return strings.ToUpper(name[:1]) + name[1:] }

// addSlots adds the member of an element, and for a primitive the one that
// holds its extensions.
func (v *Validator) addSlots(s *shape, e *r4.ElementInfo, bit uint8) {
	sl := slot{
		name: fhir.Intern(e.Name), bit: bit, array: e.IsArray(), choice: e.Choice != "", element: e,
		contained: s.resource && e.Name == "contained",
	}
	switch {
	case e.Max == 0:
		sl.form = formForbidden
	case e.Type == "Resource":
		sl.form = formResource
	default:
		v.typed(&sl, s, e)
	}
	sl.rules = v.rulesOf(nil, e.Invariants)
	extras := fhir.Name(0)
	if sl.form == formPrimitive && !e.XMLAttr {
		extras = fhir.Intern("_" + e.Name)
		sl.pair = extras
	}
	s.slots = append(s.slots, sl)
	if extras == 0 {
		return
	}
	s.slots = append(s.slots, slot{
		name: extras, bit: bit, array: sl.array, choice: sl.choice, element: e,
		form: formExtras, pair: sl.name, shape: v.shapeOf(e.Type),
	})
}

// typed fills in what follows from the element's type.
func (v *Validator) typed(sl *slot, s *shape, e *r4.ElementInfo) {
	typeName := e.Type
	if profiles := e.Types[0].Profiles; len(profiles) == 1 {
		if _, held := r4.StructureOf(profiles[0]); held {
			typeName = profiles[0] // SimpleQuantity
		}
	}
	sl.codes = v.codesOf(e)
	if p, ok := primitives[typeName]; ok {
		sl.form, sl.primitive = formPrimitive, p
		if s.name == "Reference" && e.Name == "reference" {
			sl.primitive = primitiveReference
		}
		return
	}
	sl.form, sl.shape = formObject, v.shapeOf(typeName)
	if typeName == "Reference" {
		sl.targets = newTargets(e.Types[0].Targets)
	}
}
