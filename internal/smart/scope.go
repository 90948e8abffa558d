package smart

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
)

// Bounds of a scope string.
const (
	// MaxScopeBytes is the length of the whole string.
	MaxScopeBytes = 16 << 10
	// MaxScopes is how many scopes it may list: all of R4's types, and some.
	MaxScopes = 256
	// MaxFilterPairs is how many search parameters one scope may carry.
	MaxFilterPairs = 16
)

// Context is whose data a scope speaks of.
type Context uint8

// The contexts of SMART App Launch.
const (
	Patient Context = iota // the patient of the launch
	User                   // what the user may see
	System                 // what the client may see on its own
)

var contextNames = [...]string{"patient", "user", "system"}

func (c Context) String() string { return contextNames[c] }

// AnyType is the wildcard of a scope's type.
const AnyType = "*"

// Scope is one scope for resources, as understood.
type Scope struct {
	Text    string // as granted
	Context Context
	Type    string // a resource type's name, or AnyType
	Access  search.Access
	// Filter are the search parameters that a resource must meet, all of them;
	// empty is none.
	Filter []search.Pair
}

// Refusal is a scope that looks like one for resources and grants nothing.
type Refusal struct{ Scope, Reason string }

// Scopes are the scopes of one token.
type Scopes struct {
	Resources []Scope
	Refused   []Refusal
	// Others are launch scopes, openid and whatever is not about resources: they
	// grant nothing here and do no harm.
	Others []string

	form Features // under which they were read
}

// Features are the forms of scopes that a store honours beside V1.
type Features struct {
	V2      bool // patient/Observation.rs
	Filters bool // patient/Observation.rs?category=laboratory
}

// The capabilities that switch features on (HealthLake developer guide, "SMART
// on FHIR scopes"; permission-v2.2 needs permission-v2).
const (
	capabilityV2      = "permission-v2"
	capabilityFilters = "permission-v2.2"
)

// FeaturesOf are the forms that count under a strategy and the capabilities of
// the store's metadata.
func FeaturesOf(s Strategy, capabilities []string) Features {
	v2 := s == All && slices.Contains(capabilities, capabilityV2)
	return Features{V2: v2, Filters: v2 && slices.Contains(capabilities, capabilityFilters)}
}

// ParseScopes reads a token's scope string (RFC 6749 section 3.3). A scope that
// is malformed, or of a form that does not count, is in Refused; only a string
// beyond the bounds is an error, fault.Forbidden.
func ParseScopes(text string, f Features) (Scopes, error) {
	if len(text) > MaxScopeBytes {
		return Scopes{}, fault.New(fault.Forbidden, "smart.ParseScopes", "the token's scopes are longer than %d bytes", MaxScopeBytes)
	}
	all := Scopes{form: f}
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, " ") {
		if part == "" || seen[part] {
			continue
		}
		if seen[part] = true; len(seen) > MaxScopes {
			return Scopes{}, fault.New(fault.Forbidden, "smart.ParseScopes", "the token has more than %d scopes", MaxScopes)
		}
		all.add(part, f)
	}
	return all, nil
}

func (s *Scopes) add(text string, f Features) {
	context, rest, ok := cutContext(text)
	if !ok {
		s.Others = append(s.Others, text)
		return
	}
	scope, reason := parseScope(rest, f)
	if reason != "" {
		s.Refused = append(s.Refused, Refusal{text, reason})
		return
	}
	scope.Text, scope.Context = text, context
	s.Resources = append(s.Resources, scope)
}

func cutContext(text string) (Context, string, bool) {
	name, rest, found := strings.Cut(text, "/")
	i := slices.Index(contextNames[:], name)
	if !found || i < 0 {
		return 0, "", false
	}
	return Context(i), rest, true
}

// parseScope reads what stands behind the context; reason is why it grants
// nothing.
func parseScope(text string, f Features) (s Scope, reason string) {
	head, query, filtered := strings.Cut(text, "?")
	typ, permissions, found := strings.Cut(head, ".")
	if !found || !typeName(typ) {
		return s, "not of the form Type.permissions"
	}
	access, v2, ok := parseAccess(permissions)
	switch {
	case !ok:
		return s, "its permissions are none of read, write, * and an ordered part of cruds"
	case v2 && !f.V2:
		return s, "V2 scopes are not enabled for this data store"
	case filtered && !f.Filters:
		return s, "scopes with search parameters are not enabled for this data store"
	case filtered && !v2:
		return s, "only V2 scopes take search parameters"
	case filtered && typ == AnyType:
		return s, "search parameters need an explicit type"
	}
	s = Scope{Type: typ, Access: access}
	if filtered {
		s.Filter, reason = parseFilter(query)
	}
	return s, reason
}

func parseFilter(query string) ([]search.Pair, string) {
	pairs, err := search.ParsePairs(query)
	switch {
	case err != nil:
		return nil, "InvalidScope: " + fault.From(err).Message()
	case len(pairs) == 0:
		return nil, "InvalidScope: its search parameters are empty"
	case len(pairs) > MaxFilterPairs:
		return nil, fmt.Sprintf("InvalidScope: more than %d search parameters", MaxFilterPairs)
	}
	return pairs, ""
}

// typeName reports whether s may be a type's name; which types there are, the
// registry knows.
func typeName(s string) bool {
	if s == AnyType {
		return true
	}
	for i := range len(s) {
		letter := s[i] >= 'A' && s[i] <= 'Z' || i > 0 && s[i] >= 'a' && s[i] <= 'z'
		if !letter {
			return false
		}
	}
	return s != ""
}

const (
	reading = search.Read | search.Search
	writing = search.Create | search.Update | search.Delete
)

// parseAccess reads permissions. SMART App Launch 2.2, "Scopes for requesting
// FHIR resources": .read is .rs, .write is .cud, .* is .cruds.
func parseAccess(s string) (access search.Access, v2, ok bool) {
	switch s {
	case "read":
		return reading, false, true
	case "write":
		return writing, false, true
	case "*":
		return search.AllAccess, false, true
	}
	letters := "cruds"
	for i := range len(s) {
		at := strings.IndexByte(letters, s[i])
		if at < 0 {
			return 0, false, false
		}
		access |= accessOf[s[i]]
		letters = letters[at+1:] // each once, in order
	}
	return access, true, s != ""
}

var accessOf = map[byte]search.Access{
	'c': search.Create, 'r': search.Read, 'u': search.Update, 'd': search.Delete, 's': search.Search,
}
