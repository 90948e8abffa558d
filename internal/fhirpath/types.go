package fhirpath

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// systemKind is the type of a value in FHIRPath's own System namespace.
type systemKind uint8

const (
	kindNode systemKind = iota // an element of a resource
	kindBoolean
	kindString
	kindInteger
	kindDecimal
	kindDate
	kindDateTime
	kindTime
	kindQuantity
	kindType // what type() gives
)

var kindNames = [...]string{
	"", "Boolean", "String", "Integer", "Decimal", "Date", "DateTime", "Time", "Quantity", "TypeInfo",
}

func (k systemKind) String() string { return kindNames[k] }

// systemKindByName gives the kind of a System type, 0 of another name and of
// "Any".
func systemKindByName(name string) systemKind {
	for k := kindBoolean; k <= kindQuantity; k++ {
		if kindNames[k] == name {
			return k
		}
	}
	return 0
}

// elementType is what the engine knows of a FHIR type: R4's tables, arranged
// for navigation. One exists per type and never changes.
type elementType struct {
	name      string
	primitive systemKind // of a primitive: the System type of its value
	quantity  bool       // Quantity or a type derived from it
	resource  bool

	members map[string]*elementMember    // by name in FHIRPath
	inJSON  map[fhir.Name]*elementMember // by name in JSON, choices narrowed
	all     []*elementMember             // in order of definition
}

// elementMember is one member of a type.
type elementMember struct {
	name     string       // in FHIRPath
	json     fhir.Name    // in JSON
	sibling  fhir.Name    // of a primitive: the member that holds its id and extensions
	typeName string       // "Resource" where the content says its type
	typ      *elementType // resolved at first use by contentType
	once     sync.Once
	repeats  bool
	// choices are the members that stand for a choice, by name in JSON.
	choices map[fhir.Name]*elementMember
}

// untyped stands for content that R4's tables do not describe.
var untyped = &elementType{name: "Element"}

// elementTypes are the descriptions made so far, by name. A new one is added to
// a copy, so that looking up needs no lock and no allocation.
var elementTypes = struct {
	sync.Mutex
	known atomic.Pointer[map[string]*elementType]
}{}

// Prepare reads R4's types, all of them (some 6 MB and 30 ms), so that documents
// parsed afterwards know the names of their members and no evaluation waits for
// a table. Without it types are read when first met.
func Prepare() { learn(r4.StructureNames()...) }

// typeByName gives the description of a FHIR type, nil for an unknown name.
func typeByName(name string) *elementType {
	if t, ok := knownTypes()[name]; ok {
		return t
	}
	if _, ok := r4.StructureOf(name); !ok {
		return nil
	}
	return learn(name)[name]
}

// knownTypes are the types made so far. The map is never changed.
func knownTypes() map[string]*elementType {
	if known := elementTypes.known.Load(); known != nil {
		return *known
	}
	return nil
}

// learn adds types to the known ones and gives them all.
func learn(names ...string) map[string]*elementType {
	elementTypes.Lock()
	defer elementTypes.Unlock()
	next := maps.Clone(knownTypes())
	if next == nil {
		next = map[string]*elementType{}
	}
	for _, name := range names {
		if s, ok := r4.StructureOf(name); ok && next[name] == nil {
			next[name] = newElementType(s)
		}
	}
	elementTypes.known.Store(&next)
	return next
}

func newElementType(s *r4.Structure) *elementType {
	t := &elementType{
		name:     s.Name,
		quantity: r4.IsA(s.Name, "Quantity"),
		resource: s.Kind == r4.KindResource,
		members:  make(map[string]*elementMember, len(s.Elements)),
		inJSON:   make(map[fhir.Name]*elementMember, 2*len(s.Elements)),
	}
	if s.Kind == r4.KindPrimitive {
		t.primitive = systemKindByName(s.System)
	}
	for _, e := range s.Elements {
		if !strings.HasPrefix(e.Type, "System.") {
			t.add(s, e)
		}
	}
	return t
}

func (t *elementType) add(s *r4.Structure, e *r4.ElementInfo) {
	m := newElementMember(e)
	t.members[e.Name] = m
	t.all = append(t.all, m)
	if !e.IsChoice() {
		t.inJSON[m.json] = m
		if m.sibling != 0 {
			t.inJSON[m.sibling] = m
		}
		return
	}
	m.choices = make(map[fhir.Name]*elementMember, 2*len(e.Types))
	for _, ref := range e.Types {
		if x, ok := s.Element(e.Choice + upperFirst(ref.Name)); ok {
			c := newElementMember(x)
			c.name = e.Name
			m.choices[c.json], t.inJSON[c.json] = c, c
			if c.sibling != 0 {
				m.choices[c.sibling], t.inJSON[c.sibling] = c, c
			}
		}
	}
}

func upperFirst(name string) string {
	if name == "" || name[0] < 'a' || name[0] > 'z' {
		return name
	}
	return string(name[0]-'a'+'A') + name[1:]
}

func newElementMember(e *r4.ElementInfo) *elementMember {
	m := &elementMember{name: e.Name, json: fhir.Intern(e.Name), typeName: e.Type, repeats: e.IsArray()}
	if s, ok := r4.StructureOf(e.Type); ok && s.Kind == r4.KindPrimitive {
		m.sibling = fhir.Intern("_" + e.Name)
	}
	return m
}

// contentType is the type of the member's content; nil where only the content
// itself can tell.
func (m *elementMember) contentType() *elementType {
	m.once.Do(func() {
		if m.typeName != "Resource" {
			m.typ = typeByName(m.typeName)
		}
	})
	return m.typ
}

// typeOfNode is the type of content that must say it itself.
func typeOfNode(n fhir.Node) *elementType {
	said := n.GetName(nameResource)
	if said.Kind() != fhir.String {
		return untyped
	}
	if t := knownTypes()[string(said.TextBytes())]; t != nil && t.resource {
		return t
	}
	if t := typeByName(said.Text()); t != nil && t.resource {
		return t
	}
	return untyped
}

// matcher is a compiled type specifier.
type matcher struct {
	name   string
	fhir   *elementType // the FHIR type meant, if any
	system systemKind   // the System type meant, kindNode for none
	any    bool         // System.Any
}

// resolveType finds what a type specifier names. A name without namespace may
// mean FHIR's type, the System's, or, Quantity, either. System has no more types
// than those below, so that nothing is a System.Patient.
func resolveType(spec typeName) (matcher, bool) {
	m := matcher{name: spec.name}
	if spec.space != "System" {
		m.fhir = typeByName(spec.name)
	}
	if spec.space != "FHIR" {
		m.system = systemKindByName(spec.name)
		m.any = spec.name == "Any" && m.fhir == nil
	}
	return m, m.fhir != nil || m.system != kindNode || m.any || spec.space == "System"
}

// is reports whether v is of the type or of one derived from it.
func (m matcher) is(v *Value) bool {
	if m.any {
		return true
	}
	if v.kind != kindNode {
		return v.kind == m.system && m.system != kindNode
	}
	return m.fhir != nil && (v.typ == m.fhir || r4.IsA(v.typ.name, m.fhir.name))
}

// selects is is for as and ofType: a primitive must be of exactly the type, as
// HL7's tests have it (a code is no string there), other elements may be of a
// derived one.
func (m matcher) selects(v *Value) bool {
	if v.kind == kindNode && v.typ.primitive != 0 {
		return v.typ == m.fhir || m.any
	}
	return m.is(v)
}
