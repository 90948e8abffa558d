package search

import (
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Pair is one parameter as it came, decoded, in its order.
type Pair struct{ Name, Value string }

// Query is a search as understood. Parse makes it; it does not change after.
type Query struct {
	// Types are the types searched, each once.
	Types []plan.Type
	// Clauses must all hold.
	Clauses []Clause
	// In narrows to a compartment; nil is none.
	In *Compartment

	Sort []SortKey
	// Count is the page size, within the limits; Summary == SummaryCount and
	// Count == 0 want no resources, only the total.
	Count    int
	Total    plan.TotalMode
	Summary  Summary
	Elements []string // root elements to keep; nil is all
	// Contained is _contained; with ContainedAlone (_containedType=contained) the
	// contained resources are answered, else their containers.
	Contained      Contained
	ContainedAlone bool
	Includes       []Include
	Format         string // _format as sent
	Pretty         bool
	Explain        bool
	// Page is the page token of the link that was followed, "" on a first page.
	Page string
	// Ignored are the parameters that handling=lenient let pass.
	Ignored []Ignored

	understood []Pair
}

// Compartment is the compartment of one resource.
type Compartment struct{ Of plan.Key }

// Ignored is a parameter that was not understood, and why.
type Ignored struct {
	Pair
	Reason string
}

// Summary is _summary (R4 3.1.1.5.8).
type Summary uint8

// The forms of _summary.
const (
	SummaryFalse Summary = iota
	SummaryTrue
	SummaryText
	SummaryData
	SummaryCount
)

var summaryNames = [...]string{"false", "true", "text", "data", "count"}

func (s Summary) String() string { return summaryNames[s] }

// Contained is _contained (R4 3.1.1.5.5).
type Contained uint8

// The values of _contained.
const (
	ContainedFalse Contained = iota
	ContainedTrue
	ContainedBoth
)

var containedNames = [...]string{"false", "true", "both"}

func (c Contained) String() string { return containedNames[c] }

// SortKey is one rule of _sort: by a parameter of the types that have it, or by
// what every resource has.
type SortKey struct {
	By     plan.SortBy
	Desc   bool
	Params []*Param // ByParam
}

// Include is one _include, or with Reverse _revinclude (R4 3.1.1.5.6).
type Include struct {
	Reverse bool
	Iterate bool
	// Source is the type that holds the reference; 0 is any ("*").
	Source plan.Type
	// Param is the reference; nil is every one ("*").
	Param *Param
	// Target narrows what is pointed at; 0 is any.
	Target plan.Type
}

// Clause is one parameter: its condition on each searched type.
type Clause struct {
	Pair
	On []On
}

// On is a condition on one type.
type On struct {
	Type plan.Type
	Cond Cond
}

// Cond is a condition: Match, Missing, Chained, Having, ByID, ByTime, Content,
// Never, or, in a filter, AllOf, AnyOf and Not.
type Cond interface{ cond() }

// Match holds when the parameter meets one of Values under the modifier.
type Match struct {
	Param    *Param
	Modifier Modifier
	Values   []Value
}

// Missing holds when the parameter has no value, or with Not when it has one.
type Missing struct {
	Param *Param
	Not   bool
}

// Chained holds when the reference points to a resource that one of To
// describes.
type Chained struct {
	Param *Param
	To    []On
}

// Having holds when a resource that From describes points here by Param.
type Having struct {
	Param *Param
	From  On
	Of    plan.Type // the type of "here"
}

// ByID holds for these ids, or with Not for all others.
type ByID struct {
	IDs []string
	Not bool
}

// ByTime holds when the time of the version, or with Created of the first
// version, meets one of Values.
type ByTime struct {
	Created bool
	Values  []DateValue
}

// Never holds for nothing: a reference of a type that its modifier excludes.
type Never struct{}

// AllOf holds when all of its conditions hold.
type AllOf []Cond

// AnyOf holds when one of its conditions holds.
type AnyOf []Cond

// Not holds when its condition does not.
type Not struct{ Of Cond }

func (Match) cond()   {}
func (Missing) cond() {}
func (Chained) cond() {}
func (Having) cond()  {}
func (ByID) cond()    {}
func (ByTime) cond()  {}
func (Never) cond()   {}
func (AllOf) cond()   {}
func (AnyOf) cond()   {}
func (Not) cond()     {}

// Modifier changes how a parameter compares (R4 3.1.1.4.4).
type Modifier uint8

// The modifiers; :missing and :[type] become conditions of their own.
const (
	Plain Modifier = iota
	ModExact
	ModContains
	ModText
	ModNot
	ModAbove
	ModBelow
	ModIn
	ModNotIn
	ModOfType
	ModIdentifier
	ModCodeText // R5's: a code, or its text, begins with the value
	ModAdvanced // R5's: the text of a code has words

	// These only _filter asks for (search_filter.html).
	ModIs       // a string's whole, folded
	ModIsNot    // a string other than that
	ModStarts   // the beginning of a string, of a uri or of a code
	ModEnds     // the end of a string or uri
	ModAfter    // gt of strings, in the order of their folded letters
	ModFrom     // ge
	ModBefore   // lt
	ModUpTo     // le
	ModOverlaps // dates; see Overlaps
)

// modifiers are the modifiers by name and the kinds that take them. R4's code
// system spells ofType, its text of-type.
var modifiers = map[string]struct {
	is    Modifier
	kinds []Kind
}{
	"exact":         {ModExact, []Kind{KindString}},
	"contains":      {ModContains, []Kind{KindString, KindURI}},
	"text":          {ModText, []Kind{KindToken}},
	"code-text":     {ModCodeText, []Kind{KindToken}},
	"text-advanced": {ModAdvanced, []Kind{KindToken}},
	"not":           {ModNot, []Kind{KindToken}},
	"above":         {ModAbove, []Kind{KindToken, KindURI, KindReference}},
	"below":         {ModBelow, []Kind{KindToken, KindURI, KindReference}},
	"in":            {ModIn, []Kind{KindToken}},
	"not-in":        {ModNotIn, []Kind{KindToken}},
	"of-type":       {ModOfType, []Kind{KindToken}},
	"ofType":        {ModOfType, []Kind{KindToken}},
	"identifier":    {ModIdentifier, []Kind{KindReference}},
}

// Pairs are the parameters as understood, in order: what self shows.
func (q *Query) Pairs() []Pair { return q.understood }

// Self is the query string as understood, for Bundle.link: every name and value
// percent-encoded but for RFC 3986's unreserved characters, so that what a
// client signs (Signature Version 4) is what stands there.
func (q *Query) Self() string { return Encode(q.understood) }

// Encode writes pairs as a query string, percent-encoded as Self says.
func Encode(pairs []Pair) string {
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		percent(&b, p.Name)
		b.WriteByte('=')
		percent(&b, p.Value)
	}
	return b.String()
}

func percent(b *strings.Builder, s string) {
	const hex = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		if c := s[i]; unreserved(c) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
}

func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

func (q *Query) understand(name, value string) {
	q.understood = append(q.understood, Pair{name, value})
}

func (q *Query) understandCount() { q.understand("_count", strconv.Itoa(q.Count)) }
