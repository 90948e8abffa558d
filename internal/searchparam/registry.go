package searchparam

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Registry is the search parameters of R4 and, where it is made by With, those
// that users defined. It implements search.Registry and
// may be used by many goroutines.
type Registry struct {
	params map[*r4.SearchParam]*search.Param
	codes  map[plan.Type][]string
	// content: _content is offered.
	content bool
	// base, in a registry made by With, has R4's own; defined are the others, by
	// type.
	base    *Registry
	defined map[plan.Type][]defined

	programs sync.Map // plan.Type → *program, made at the first resource of a type
	narrow   sync.Map // programKey → *program, for some parameters of a type
	narrowed atomic.Int32
}

// programKey names some parameters of a type by their numbers, as bytes.
type programKey struct {
	t       plan.Type
	numbers string
}

// maxNarrow bounds the programs kept for some parameters of a type.
const maxNarrow = 1000

var _ search.Registry = (*Registry)(nil)

// Option changes what a Registry knows. It decides which entries there are, and
// so is constant for the life of a data store.
type Option func(*Registry)

// WithContent adds _content: the words of all strings of every resource. They
// double or treble the entries of most.
func WithContent(r *Registry) { r.content = true }

// NewRegistry makes the registry of R4's own parameters.
func NewRegistry(options ...Option) *Registry {
	r := &Registry{
		params: map[*r4.SearchParam]*search.Param{},
		codes:  map[plan.Type][]string{},
	}
	for _, option := range options {
		option(r)
	}
	for _, p := range r4.AllParams() {
		r.params[p] = r.describe(p)
	}
	for p, param := range r.params {
		for _, c := range p.Components {
			param.Components = append(param.Components, r.params[c.Param])
		}
	}
	r.shareEntries()
	r.addOwn()
	for _, t := range r4.ResourceTypes() {
		for _, p := range r4.Params(t) {
			if kind := r.params[p].Kind; kind != search.KindSpecial && kind != search.KindPosition {
				r.codes[t] = append(r.codes[t], p.Code)
			}
		}
	}
	return r
}

// storeParams are answered from what the store keeps of every version; they
// have no entries.
var storeParams = map[string]bool{"_id": true, "_lastUpdated": true}

func (r *Registry) describe(p *r4.SearchParam) *search.Param {
	kind := search.KindOf(p.Type.String())
	switch {
	case p.Code == "_text", p.Code == codeContent && r.content:
		kind = search.KindWords
	case p.Expression == "":
		kind = search.KindSpecial // nothing in the resource says it by itself
	case p.Type == r4.ParamSpecial:
		kind = search.KindPosition // Location.near; R4 has no other with an expression
	}
	param := &search.Param{Code: p.Code, Number: p.Number, Kind: kind, Targets: slices.Clone(p.Targets), Usual: usual(p)}
	if kind == search.KindToken {
		param.Implied = implied(p)
		param.ManyCodes = manyCodes(p)
	}
	param.Parts = kind == search.KindString && names(p)
	referring(param, p)
	return param
}

// usualCodes are parameters that most resources have a value of, though R4 does
// not demand it. Persisted in what entries there are: do not change.
var usualCodes = map[string]bool{"subject": true, "patient": true, "encounter": true, "date": true,
	"category": true, "code": true, "status": true}

// usual reports whether most resources have a value: a usual code, or a required
// element.
func usual(p *r4.SearchParam) bool {
	if usualCodes[p.Code] {
		return true
	}
	name, ok := strings.CutPrefix(p.Expression, p.Base+".")
	if !ok {
		return false
	}
	e, ok := r4.Element(p.Base, name)
	return ok && e.Min > 0
}

// manyCodes reports whether a token parameter looks at identifiers or contact
// points.
func manyCodes(p *r4.SearchParam) bool {
	paths, err := valuePaths(p.Base, p.Expression)
	return err == nil && slices.ContainsFunc(paths, func(p path) bool { return p.as == elementIdentifier || p.as == elementContact })
}

// names reports whether a string parameter looks at names of people.
func names(p *r4.SearchParam) bool {
	paths, err := valuePaths(p.Base, p.Expression)
	return err == nil && slices.ContainsFunc(paths, func(p path) bool { return p.as == elementName || p.as == elementFamily })
}

// implied tells whether a code without system stands for one in a system: when
// every element of the parameter is a code of a value set that has it.
func implied(p *r4.SearchParam) func(system, code string) bool {
	bound := sync.OnceValue(func() []*r4.ValueSet { return boundSets(p) })
	boolean := sync.OnceValue(func() bool { return booleans(p) })
	return func(system, code string) bool {
		if specialValues[system] && boolean() {
			return code == "" || strings.EqualFold(code, "true") || strings.EqualFold(code, "false")
		}
		sets := bound()
		return len(sets) > 0 && !slices.ContainsFunc(sets, func(set *r4.ValueSet) bool {
			if code == "" {
				return len(set.Open) > 0 || len(set.Systems) != 1 || set.Systems[0].System != system
			}
			return !set.Has(system, search.FoldCode(code)) && !set.Has(system, code)
		})
	}
}

// specialValues are the code system of booleans (R4 3.1.1.4.10: "never actually
// used"), under the name that the search page has and under its own.
var specialValues = map[string]bool{"http://hl7.org/fhir/special-values": true, "http://terminology.hl7.org/CodeSystem/special-values": true}

// booleans reports whether a parameter looks at booleans alone, or makes one.
func booleans(p *r4.SearchParam) bool {
	if _, ok := affirmed(p.Expression); ok {
		return true
	}
	paths, err := valuePaths(p.Base, p.Expression)
	return err == nil && len(paths) > 0 && !slices.ContainsFunc(paths, func(x path) bool { return x.typ != "boolean" })
}

// boundSets are the value sets of a parameter's elements, none when an element
// is no bound code.
func boundSets(p *r4.SearchParam) []*r4.ValueSet {
	paths, err := valuePaths(p.Base, p.Expression)
	if err != nil {
		return nil
	}
	var sets []*r4.ValueSet
	for _, path := range paths {
		set, ok := r4.ValueSetByURL(path.bound)
		if !ok {
			return nil
		}
		sets = append(sets, set)
	}
	return sets
}

// Param finds a parameter of a type.
func (r *Registry) Param(t plan.Type, code string) (*search.Param, bool) {
	p, ok := r4.Param(t, code)
	if !ok {
		p, ok = addedParam(t, code)
	}
	if !ok {
		return r.own(t, code)
	}
	return r.params[p], true
}

// Codes lists the parameters of a type by name, special ones left out.
func (r *Registry) Codes(t plan.Type) []string {
	own := r.ownCodes(t)
	if len(own) == 0 {
		return r.codes[t]
	}
	return slices.Concat(r.codes[t], own)
}

// Type finds a resource type by name.
func (r *Registry) Type(name string) (plan.Type, bool) { return r4.TypeByName(name) }

// Name is a resource type's name.
func (r *Registry) Name(t plan.Type) string { return r4.TypeName(t) }

// Types lists all resource types by number.
func (r *Registry) Types() []plan.Type { return r4.ResourceTypes() }

// Compartment lists the references by which a resource of type t belongs to the
// compartment of a resource of type of. A type that is its own compartment's
// member without a reference ("{def}") is self: an Encounter, but not a Patient,
// which R4 ties to the compartments of those that it is linked to.
func (r *Registry) Compartment(of, t plan.Type) (params []*search.Param, self bool) {
	codes, member := r4.Compartment(r4.TypeName(of), t)
	for _, code := range codes {
		if p, ok := r.Param(t, code); ok && p.Kind == search.KindReference {
			params = append(params, p)
		}
	}
	return params, member && of == t && len(codes) == 0
}

// programOf gives what is taken from resources of a type, compiled.
func (r *Registry) programOf(t plan.Type) *program {
	if r.base != nil && len(r.defined[t]) == 0 {
		return r.base.programOf(t)
	}
	if made, ok := r.programs.Load(t); ok {
		return made.(*program)
	}
	made, _ := r.programs.LoadOrStore(t, newProgram(r.extractions(t)))
	return made.(*program)
}

// programFor is programOf for the parameters of these numbers alone, sorted.
func (r *Registry) programFor(t plan.Type, numbers []uint16) *program {
	if r.base != nil && len(r.defined[t]) == 0 {
		return r.base.programFor(t, numbers)
	}
	var text []byte
	for _, n := range numbers {
		text = append(text, byte(n>>8), byte(n))
	}
	key := programKey{t, string(text)}
	if made, ok := r.narrow.Load(key); ok {
		return made.(*program)
	}
	p := newProgram(slices.DeleteFunc(r.extractions(t), func(x extraction) bool {
		_, wanted := slices.BinarySearch(numbers, x.param.Number)
		return !wanted
	}))
	if r.narrowed.Add(1) > maxNarrow {
		return p
	}
	made, _ := r.narrow.LoadOrStore(key, p)
	return made.(*program)
}

func (r *Registry) extractions(t plan.Type) []extraction {
	var all []extraction
	for _, p := range r4.Params(t) {
		param := r.params[p]
		if param.Kind == search.KindSpecial || storeParams[p.Code] || !ownEntries(param) {
			continue
		}
		all = append(all, newExtraction(r4.TypeName(t), p, param))
	}
	for _, p := range added[t] {
		all = append(all, newExtraction(r4.TypeName(t), p, r.params[p]))
	}
	for _, d := range r.defined[t] {
		all = append(all, newExtraction(r4.TypeName(t), d.source, d.param))
	}
	return all
}
