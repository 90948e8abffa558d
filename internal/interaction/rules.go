package interaction

import (
	"cmp"

	"github.com/tarn-fhir/tarn/internal/search"
)

// Rules are how one data store bounds and treats requests where R4 leaves the
// choice to the server. The zero value is Tarn's own choice.
type Rules struct {
	Entries     EntryLimits
	MaxResource int // bounds one resource in bytes of JSON; 0 is MaxResource
	// MaxCount bounds _count; 0 is search.MaxCount. RefuseLargeCount refuses what
	// is beyond it, and zero, as HealthLake does; otherwise _count is cut.
	MaxCount         int
	RefuseLargeCount bool
	// MultipleDelete lets a conditional delete remove everything that matches, up
	// to MaxDeletes (R4 http.html#3.1.0.7.1).
	MultipleDelete bool
	// PassUnknown passes over unknown search parameters without being asked to,
	// unless the client says handling=strict (R4 search.html#errors).
	PassUnknown bool
}

// MaxDeletes bounds what one conditional delete removes in a store that allows
// several: it is one commit.
const MaxDeletes = 10_000

// The bounds of a Rules' own members: what the machinery carries.
const (
	LeastResource = 1 << 10  // bytes; smaller ones would refuse nearly everything
	MostResource  = 64 << 20 // bytes; what a document of package fhir may hold
)

// HealthLakeRules are the choices of HealthLake (devguide, "Bundles", "Search
// parameters", "Endpoints and quotas").
var HealthLakeRules = Rules{Entries: HealthLakeEntries, MaxResource: MaxResource, MaxCount: 100, RefuseLargeCount: true}

// maxCount is the largest page that may be asked for.
func (r Rules) maxCount() int { return cmp.Or(r.MaxCount, search.MaxCount) }

// searchOptions are a search's options under these rules.
func (s *Session) searchOptions() search.Options {
	return search.Options{
		Lenient: s.Lenient, Base: s.Base + "/",
		MaxCount: s.Rules.MaxCount, RefuseLargeCount: s.Rules.RefuseLargeCount,
	}
}
