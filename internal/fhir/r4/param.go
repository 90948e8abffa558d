package r4

// ParamType is the type of a search parameter (https://hl7.org/fhir/R4/search.html#ptypes).
type ParamType uint8

// The types of search parameters.
const (
	ParamNumber ParamType = iota + 1
	ParamDate
	ParamString
	ParamToken
	ParamReference
	ParamComposite
	ParamQuantity
	ParamURI
	ParamSpecial
)

var paramTypeNames = [...]string{ParamNumber: "number", ParamDate: "date", ParamString: "string", ParamToken: "token",
	ParamReference: "reference", ParamComposite: "composite", ParamQuantity: "quantity", ParamURI: "uri", ParamSpecial: "special"}

// String is the type's code in FHIR.
func (t ParamType) String() string {
	if int(t) >= len(paramTypeNames) {
		return ""
	}
	return paramTypeNames[t]
}

// ParamTypeByName gives the type of a FHIR code such as "token".
func ParamTypeByName(code string) (ParamType, bool) {
	for t, name := range paramTypeNames {
		if name == code && code != "" {
			return ParamType(t), true
		}
	}
	return 0, false
}

// SearchParam is one search parameter on one base type. A definition with several
// bases is several SearchParams with one URL and a number each.
type SearchParam struct {
	// Number is frozen and persisted by the store (numbers.lock), from 1 up;
	// UserParams and above are never used here.
	Number uint16
	// URL is the definition's canonical; "" for _list, _has and _type, which R4
	// defines in prose only (https://hl7.org/fhir/R4/search.html#all).
	URL  string
	Code string // as written in a search: "birthdate", "_id"
	// Base is the type it is defined on: a resource type, or "Resource" or
	// "DomainResource" for what all of them share (one number for all).
	Base string
	Type ParamType
	// Expression is FHIRPath from a resource of Base, the alternatives for other
	// bases left out and R4's faults corrected (gen/corrections.go). It is ""
	// where nothing in the resource is named: _text, _content, _filter, age.
	Expression string
	// Targets are the resource types a reference parameter may point to, as
	// published; none published is none here.
	Targets []TypeID
	// Components are the parts of a composite, in order.
	Components []Component
	// Comparators and Modifiers as published; mostly empty, which restricts
	// nothing.
	Comparators []string
	Modifiers   []string
}

// Component is one part of a composite parameter.
type Component struct {
	URL        string       // the parameter's definition
	Expression string       // FHIRPath from each item the composite's Expression gives
	Param      *SearchParam // that definition on the composite's base: its type decides the comparison
}

// UserParams is the first number for search parameters that users define.
const UserParams = 0x8000

// Params lists the search parameters of a resource type by code, with those of
// Resource and, where it is one, DomainResource.
func Params(id TypeID) []*SearchParam {
	s := search()
	if s.typeOf(id) == nil {
		return nil
	}
	return s.params[id].list
}

// Param finds a search parameter of a resource type by code.
func Param(id TypeID, code string) (*SearchParam, bool) {
	s := search()
	if s.typeOf(id) == nil {
		return nil, false
	}
	p, ok := s.params[id].byCode[code]
	return p, ok
}

// CommonParams lists the search parameters of Resource alone: those that a
// search over all types may use (https://hl7.org/fhir/R4/search.html#all).
func CommonParams() []*SearchParam { return search().common }

// ParamByURL finds the search parameter that a definition makes on one resource
// type.
func ParamByURL(id TypeID, url string) (*SearchParam, bool) {
	if url == "" {
		return nil, false
	}
	for _, p := range Params(id) {
		if p.URL == url {
			return p, true
		}
	}
	return nil, false
}

// ParamByNumber finds a search parameter by its frozen number.
func ParamByNumber(n uint16) (*SearchParam, bool) {
	p, ok := search().byNumber[n]
	return p, ok
}

// AllParams lists every search parameter by number.
func AllParams() []*SearchParam { return search().all }
