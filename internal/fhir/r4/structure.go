package r4

import "math"

// Kind is what sort of type a Structure describes.
type Kind uint8

// The kinds. A backbone is an element with members of its own inside a resource or
// data type; its name is its path, such as "Observation.component".
const (
	KindPrimitive Kind = iota + 1
	KindComplex
	KindBackbone
	KindResource
)

// Structure describes one type: resource, data type, primitive or backbone
// element; also the Quantity profiles SimpleQuantity and MoneyQuantity, whose
// Base is Quantity.
type Structure struct {
	Name     string // "Patient", "HumanName", "dateTime", "Observation.component"
	Kind     Kind
	Abstract bool   // Element, BackboneElement, Resource, DomainResource
	Base     string // the type it specialises: "DomainResource", "Quantity"; "" for Element and Resource
	System   string // primitives: the FHIRPath system type of the value: "String", "DateTime"
	Regex    string // primitives: the format of the value, to be anchored; "" where R4 gives none
	// MinValue and MaxValue bound an integer's value, MaxLength the characters of
	// a string's; zero MaxLength and equal values mean no bound.
	MinValue, MaxValue int64
	MaxLength          uint32
	// Invariants are all constraints on a value of this type, inherited ones
	// first among them (dom-2 on each DomainResource).
	Invariants []Invariant
	// Elements are the members in definition order, inherited ones first. A
	// choice such as value[x] is one element.
	Elements []*ElementInfo

	members map[string]*ElementInfo // by JSON member name and by choice name
}

// ElementInfo describes one member of a type.
type ElementInfo struct {
	// Name is the member's name in JSON, such as "status" or "valueQuantity".
	// The element that stands for a whole choice carries the name without [x]
	// ("value", as FHIRPath writes it), which no JSON member has: IsChoice.
	Name string
	Path string // as defined: "Observation.value[x]"
	// Choice is the choice's name ("value") in a choice and in each of its
	// expansions, "" elsewhere.
	Choice string
	// Type is the name under which StructureOf describes the content: "string",
	// "Reference", "Observation.component"; a content reference names the
	// backbone it refers to; "Resource" is any resource. It is "" for a whole
	// choice, and "System.String" and such for the value of a primitive.
	Type  string
	Types []TypeRef // all allowed types; one, but for a whole choice
	Min   uint16
	Max   uint32 // Unbounded for *

	Summary  bool // isSummary: part of _summary=true
	Modifier bool // isModifier
	XMLAttr  bool // an attribute in XML
	Binding  Binding
	// Invariants are the constraints stated on this element beside those of its
	// type, which are in the Structure of Type.
	Invariants []Invariant
}

// Unbounded is the Max of an element that may repeat without limit.
const Unbounded = math.MaxUint32

// IsArray reports whether the member is an array in JSON.
func (e *ElementInfo) IsArray() bool { return e.Max > 1 }

// IsChoice reports whether this is a whole choice (value[x]) rather than a
// member: it has several types, and JSON writes one of its expansions.
func (e *ElementInfo) IsChoice() bool { return e.Choice != "" && e.Name == e.Choice }

// TypeRef is one type an element may have.
type TypeRef struct {
	Name string // as ElementInfo.Type
	// Targets are, for Reference and canonical, the types that may be referred
	// to; "Resource" and an empty list allow any.
	Targets []string
	// Profiles are names of structures the value must meet too: SimpleQuantity.
	Profiles []string
}

// Strength is how a binding obliges (http://hl7.org/fhir/R4/valueset-binding-strength.html).
type Strength uint8

// The strengths, weakest first; Unbound is no binding.
const (
	Unbound Strength = iota
	BindExample
	BindPreferred
	BindExtensible
	BindRequired
)

// Binding ties a coded element to a value set.
type Binding struct {
	Strength Strength
	ValueSet string // canonical URL as published, with |version
	// Max, where given, is the value set no value may leave even though the
	// binding is weaker (extension elementdefinition-maxValueSet).
	Max string
}

// Invariant is a constraint in FHIRPath.
type Invariant struct {
	Key        string // "obs-6"
	Warning    bool   // severity warning; otherwise error
	Expression string // FHIRPath, evaluated on the value it is stated for
	Human      string
}

// StructureOf gives the description of a type by its name: a resource or data
// type, or a backbone element by its path.
func StructureOf(name string) (*Structure, bool) {
	s, ok := structures().slots[name]
	if !ok {
		return nil, false
	}
	return s.get(), true
}

// Elements lists the members of a type in definition order, nil for an unknown
// type. See Structure.Elements.
func Elements(typeName string) []*ElementInfo {
	s, ok := StructureOf(typeName)
	if !ok {
		return nil
	}
	return s.Elements
}

// Element finds a member of a type: by its JSON name, where "valueQuantity"
// gives value[x] narrowed to Quantity, or by the name of a whole choice,
// "value". The sibling of a primitive ("_status") is asked for without "_".
func Element(typeName, member string) (*ElementInfo, bool) {
	s, ok := StructureOf(typeName)
	if !ok {
		return nil, false
	}
	return s.Element(member)
}

// Element finds a member as the function Element does.
func (s *Structure) Element(member string) (*ElementInfo, bool) {
	e, ok := s.members[member]
	return e, ok
}

// IsA reports whether the type is ancestor or specialises it: Patient is a
// DomainResource and a Resource, Age is a Quantity, code is a string.
func IsA(name, ancestor string) bool {
	for depth := 0; depth < maxTypeDepth && name != ""; depth++ {
		if name == ancestor {
			return true
		}
		s, ok := StructureOf(name)
		if !ok {
			return false
		}
		name = s.Base
	}
	return false
}

// maxTypeDepth bounds the walk up from a type to its root. R4's deepest is four:
// Observation.component, BackboneElement, Element.
const maxTypeDepth = 8

// SummaryElements lists the members of a resource type that _summary=true keeps
// (https://hl7.org/fhir/R4/search.html#summary); deeper members carry their own
// Summary mark.
func SummaryElements(id TypeID) []*ElementInfo {
	var kept []*ElementInfo
	for _, e := range Elements(TypeName(id)) {
		if e.Summary {
			kept = append(kept, e)
		}
	}
	return kept
}

// index makes the members of a structure findable. Expansions of a choice are
// elements of their own that share all but name and type with the choice.
func (s *Structure) index() {
	s.members = make(map[string]*ElementInfo, len(s.Elements)+len(s.Elements)/2)
	for _, e := range s.Elements {
		s.members[e.Name] = e
		if !e.IsChoice() {
			continue
		}
		for i := range e.Types {
			x := e.expansion(i)
			s.members[x.Name] = x
		}
	}
}

// expansion is the choice narrowed to its i-th type: value[x] as valueQuantity.
func (e *ElementInfo) expansion(i int) *ElementInfo {
	x := *e
	x.Types = e.Types[i : i+1 : i+1]
	x.Type = x.Types[0].Name
	x.Name = e.Choice + upperFirst(x.Type)
	return &x
}

// upperFirst writes a type's name as choices do: dateTime as DateTime.
func upperFirst(name string) string {
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		return name
	}
	return string(name[0]-'a'+'A') + name[1:]
}
