package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// structureDefinition is the part of StructureDefinition that the tables need
// (https://hl7.org/fhir/R4/structuredefinition.html).
type structureDefinition struct {
	URL            string
	Name           string
	Kind           string
	Abstract       bool
	Type           string
	BaseDefinition string
	Derivation     string
	Snapshot       struct{ Element []*elementDefinition }
}

type elementDefinition struct {
	Path             string
	Min              uint16
	Max              string
	ContentReference string
	Representation   []string
	Type             []struct {
		Code          string
		Profile       []string
		TargetProfile []string
		Extension     []extension
	}
	MinValueInteger int64
	MaxValueInteger int64
	MaxLength       uint32
	IsModifier      bool
	IsSummary       bool
	Constraint      []struct{ Key, Severity, Human, Expression string }
	Binding         struct {
		Strength  string
		ValueSet  string
		Extension []extension
	}
}

type extension struct {
	URL            string
	ValueURL       string `json:"valueUrl"`
	ValueString    string
	ValueCanonical string
}

// The addresses that definitions use.
const (
	structureURL = "http://hl7.org/fhir/StructureDefinition/"
	systemURL    = "http://hl7.org/fhirpath/System."
	fhirTypeURL  = structureURL + "structuredefinition-fhir-type"
	regexURL     = structureURL + "regex"
	maxSetURL    = structureURL + "elementdefinition-maxValueSet"
)

// systemPrefix begins the names of FHIRPath's system types in the tables.
const systemPrefix = "System."

// quantityProfiles are the profiles that elements of the base definitions name;
// they are described as structures too.
var quantityProfiles = []string{"SimpleQuantity", "MoneyQuantity"}

// buildStructures makes the structures of all types: data types first, then
// resources, each with its backbone elements behind it.
func buildStructures(defs []*structureDefinition) ([]*r4.Structure, error) {
	defs = slices.DeleteFunc(slices.Clone(defs), func(d *structureDefinition) bool { return !wanted(d) })
	slices.SortFunc(defs, func(a, b *structureDefinition) int {
		return strings.Compare(a.sortKey(), b.sortKey())
	})
	b := &structureBuilder{byName: map[string]*r4.Structure{}}
	for _, d := range defs {
		if err := b.add(d); err != nil {
			return nil, fmt.Errorf("%s: %w", d.URL, err)
		}
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	b.dropInherited()
	return b.all, nil
}

// wanted leaves out profiles and logical models.
func wanted(d *structureDefinition) bool {
	if d.Derivation == "constraint" {
		return slices.Contains(quantityProfiles, d.Name)
	}
	return d.Kind != "logical"
}

// sortKey puts primitive types first, then complex ones, then resources.
func (d *structureDefinition) sortKey() string {
	order := map[string]string{"primitive-type": "1", "complex-type": "2", "resource": "3"}
	return order[d.Kind] + d.Name
}

var kinds = map[string]r4.Kind{"primitive-type": r4.KindPrimitive, "complex-type": r4.KindComplex, "resource": r4.KindResource}

type structureBuilder struct {
	all    []*r4.Structure
	byName map[string]*r4.Structure
}

func (b *structureBuilder) add(d *structureDefinition) error {
	if len(d.Snapshot.Element) == 0 {
		return fmt.Errorf("no snapshot")
	}
	root := b.open(d.Name, d.Snapshot.Element[0])
	root.Kind, root.Abstract = kinds[d.Kind], d.Abstract
	root.Base = strings.TrimPrefix(d.BaseDefinition, structureURL)
	for _, e := range d.Snapshot.Element[1:] {
		if err := b.addElement(d, e); err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return nil
}

// open begins a structure with the constraints of the element that defines it.
func (b *structureBuilder) open(name string, e *elementDefinition) *r4.Structure {
	s := &r4.Structure{Name: name, Invariants: e.invariants()}
	b.all = append(b.all, s)
	b.byName[name] = s
	return s
}

func (b *structureBuilder) addElement(d *structureDefinition, e *elementDefinition) error {
	dot := strings.LastIndexByte(e.Path, '.')
	parentName, member := e.Path[:dot], e.Path[dot+1:]
	if parentName == d.Type {
		parentName = d.Name // a profile's paths begin with the type it constrains
	}
	parent, ok := b.byName[parentName]
	if !ok {
		return fmt.Errorf("no parent %s", parentName)
	}
	info, err := e.info(member)
	if err != nil {
		return err
	}
	if parent.Kind == r4.KindPrimitive && member == "value" {
		e.describePrimitive(parent)
		info.Type, info.Types = systemPrefix+parent.System, []r4.TypeRef{{Name: systemPrefix + parent.System}}
	}
	if d.hasChildren(e.Path) {
		s := b.open(e.Path, e)
		s.Kind, s.Base = r4.KindBackbone, info.Type
		info.Type, info.Types = e.Path, []r4.TypeRef{{Name: e.Path}}
	}
	if member == "id" && parent.Kind == r4.KindResource {
		info.Type, info.Types = resourceIDType, []r4.TypeRef{{Name: resourceIDType}}
	}
	parent.Elements = append(parent.Elements, info)
	return nil
}

func (d *structureDefinition) hasChildren(path string) bool {
	return slices.ContainsFunc(d.Snapshot.Element, func(e *elementDefinition) bool {
		return strings.HasPrefix(e.Path, path+".")
	})
}

// describePrimitive takes from a primitive's value element what the value is.
func (e *elementDefinition) describePrimitive(s *r4.Structure) {
	s.System = strings.TrimPrefix(e.Type[0].Code, systemURL)
	if fixed, ok := systemTypes[s.Name]; ok {
		s.System = fixed
	}
	for _, x := range e.Type[0].Extension {
		if x.URL == regexURL {
			s.Regex = x.ValueString
		}
	}
	s.MinValue, s.MaxValue, s.MaxLength = e.MinValueInteger, e.MaxValueInteger, e.MaxLength
}

func (e *elementDefinition) info(member string) (*r4.ElementInfo, error) {
	high, err := parseMax(e.Max)
	if err != nil {
		return nil, err
	}
	info := &r4.ElementInfo{Path: e.Path, Min: e.Min, Max: high, Summary: e.IsSummary, Modifier: e.IsModifier}
	info.XMLAttr = slices.Contains(e.Representation, "xmlAttr")
	info.Types = e.types(member)
	if name, choice := strings.CutSuffix(member, "[x]"); choice {
		info.Name, info.Choice = name, name
	} else if len(info.Types) == 1 {
		info.Name, info.Type = member, info.Types[0].Name
	} else {
		return nil, fmt.Errorf("%d types, but no choice", len(info.Types))
	}
	info.Binding, err = e.binding()
	info.Invariants = e.invariants()
	return info, err
}

func parseMax(s string) (uint32, error) {
	if s == "*" {
		return r4.Unbounded, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && n == math.MaxUint32 {
		err = fmt.Errorf("max %s is kept for *", s)
	}
	return uint32(n), err
}

func (e *elementDefinition) types(member string) []r4.TypeRef {
	if e.ContentReference != "" {
		return []r4.TypeRef{{Name: strings.TrimPrefix(e.ContentReference, "#")}}
	}
	var refs []r4.TypeRef
	for _, t := range e.Type {
		ref := r4.TypeRef{Name: t.Code, Targets: structureNames(t.TargetProfile), Profiles: structureNames(t.Profile)}
		if system, ok := strings.CutPrefix(t.Code, systemURL); ok {
			ref.Name = systemPrefix + system
			if member != "value" {
				ref.Name = fhirType(t.Extension)
			}
		}
		refs = append(refs, ref)
	}
	return refs
}

// fhirType is the FHIR type of a member that is declared with a system type: ids
// and Extension.url. The value of a primitive stays with its system type.
func fhirType(list []extension) string {
	for _, x := range list {
		if x.URL == fhirTypeURL {
			return x.ValueURL
		}
	}
	return "string" // xhtml.id alone lacks the extension
}

func structureNames(urls []string) []string {
	var names []string
	for _, u := range urls {
		names = append(names, strings.TrimPrefix(u, structureURL))
	}
	return names
}

var strengths = map[string]r4.Strength{"": r4.Unbound, "example": r4.BindExample, "preferred": r4.BindPreferred,
	"extensible": r4.BindExtensible, "required": r4.BindRequired}

func (e *elementDefinition) binding() (r4.Binding, error) {
	strength, ok := strengths[e.Binding.Strength]
	if !ok {
		return r4.Binding{}, fmt.Errorf("unknown strength %q", e.Binding.Strength)
	}
	b := r4.Binding{Strength: strength, ValueSet: e.Binding.ValueSet}
	for _, x := range e.Binding.Extension {
		if x.URL == maxSetURL {
			b.Max = x.ValueCanonical
		}
	}
	return b, nil
}

func (e *elementDefinition) invariants() []r4.Invariant {
	var list []r4.Invariant
	for _, c := range e.Constraint {
		list = append(list, r4.Invariant{Key: c.Key, Warning: c.Severity == "warning", Expression: c.Expression, Human: c.Human})
	}
	return list
}

// check looks whether every name that a structure uses is itself described.
func (b *structureBuilder) check() error {
	for _, s := range b.all {
		if s.Base != "" && b.byName[s.Base] == nil {
			return fmt.Errorf("%s: no base %s", s.Name, s.Base)
		}
		names := map[string]bool{}
		for _, e := range s.Elements {
			for _, t := range e.Types {
				if !strings.HasPrefix(t.Name, systemPrefix) && b.byName[t.Name] == nil {
					return fmt.Errorf("%s: no type %s", e.Path, t.Name)
				}
			}
			if names[e.Name] {
				return fmt.Errorf("%s: defined twice", e.Path)
			}
			names[e.Name] = true
		}
	}
	return nil
}

// dropInherited takes from each element the constraints that its type states
// already, such as ele-1, so that none is evaluated twice.
func (b *structureBuilder) dropInherited() {
	for _, s := range b.all {
		for _, e := range s.Elements {
			e.Invariants = slices.DeleteFunc(e.Invariants, func(v r4.Invariant) bool {
				return b.statedByAll(e.Types, v.Key)
			})
		}
	}
}

func (b *structureBuilder) statedByAll(types []r4.TypeRef, key string) bool {
	for _, t := range types {
		s := b.byName[t.Name]
		if s == nil || !slices.ContainsFunc(s.Invariants, func(v r4.Invariant) bool { return v.Key == key }) {
			return false
		}
	}
	return len(types) > 0
}

// numberTypes gives each concrete resource type its number.
func numberTypes(structures []*r4.Structure, numbers *lock) ([]r4.ResourceType, error) {
	var types []r4.ResourceType
	for _, s := range structures {
		if s.Kind != r4.KindResource || s.Abstract {
			continue
		}
		n, err := numbers.number("type", s.Name)
		if err != nil {
			return nil, err
		}
		types = append(types, r4.ResourceType{ID: r4.TypeID(n), Name: s.Name, Domain: s.Base == "DomainResource"})
	}
	slices.SortFunc(types, func(a, b r4.ResourceType) int { return int(a.ID) - int(b.ID) })
	return types, nil
}
