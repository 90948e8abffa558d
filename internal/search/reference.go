package search

import (
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// Target is where a reference points: to a resource of this store (Key.ID not
// empty), to something else by URL, or, zero, nowhere that can be searched (a
// contained resource).
type Target struct {
	Key     plan.Key
	Version string // of Key's resource
	URL     string // absolute URL, URN or canonical, without version
	// Versioned is URL with its version, as it was written; empty without.
	Versioned string
}

// Canonical is the target as a canonical names it; false for a resource of this
// store.
func (to Target) Canonical() (CanonicalURL, bool) {
	version, ok := strings.CutPrefix(to.Versioned, to.URL+"|")
	if !ok {
		version = "" // none, or one of a history
	}
	return CanonicalURL{to.URL, version}, to.URL != ""
}

// Locator tells where references point.
type Locator struct {
	// Base is this store's own base URL; absolute references below it are
	// references to its resources. Empty is none.
	Base  string
	Types interface {
		Type(name string) (plan.Type, bool)
	}
}

// Locate reads the text of a reference, or of a canonical.
func (l Locator) Locate(text string) Target {
	r := fhir.ParseReference(text)
	switch r.Form {
	case fhir.Contained:
		return Target{}
	case fhir.Relative:
		if t, ok := l.Types.Type(r.Type); ok {
			return Target{Key: plan.Key{Type: t, ID: r.ID}, Version: r.Version}
		}
	case fhir.Absolute:
		t, ok := l.Types.Type(r.Type)
		if ok && l.Base != "" && r.Base == strings.TrimSuffix(l.Base, "/") {
			return Target{Key: plan.Key{Type: t, ID: r.ID}, Version: r.Version}
		}
		return versioned(r.URL, "/_history/", r.Version)
	case fhir.URN:
		return Target{URL: r.URN}
	case fhir.Canonical:
		return versioned(r.URL, "|", r.Version)
	}
	return Target{URL: text}
}

func versioned(url, mark, version string) Target {
	to := Target{URL: url}
	if version != "" {
		to.Versioned = url + mark + version
	}
	return to
}

// parseReference reads Type/id, Type/id/_history/v, id, an absolute URL, a URN
// or a canonical (R4 3.1.1.4.12). only, when not nil, is the type that a
// modifier demands.
func (p *parser) parseReference(param *Param, only []plan.Type, text string) (Value, string) {
	if fhir.ValidID(text) {
		targets := p.targets(param)
		if only != nil {
			targets = only
		}
		return bareReference(targets, text), ""
	}
	to := p.locator.Locate(text)
	switch {
	case to.Key.ID != "" && (only != nil && only[0] != to.Key.Type || !param.refersTo(to.Key.Type)):
		return ReferenceValue{}, ""
	case to.Key.ID != "":
		return ReferenceValue{Keys: []plan.Key{to.Key}, Version: to.Version}, ""
	case to.Versioned != "":
		return ReferenceValue{URL: to.Versioned}, ""
	case to.URL != "":
		return ReferenceValue{URL: to.URL}, ""
	}
	return nil, "is a reference inside a resource, which cannot be searched"
}

// bareReference is an id of any type that may be meant.
func bareReference(targets []plan.Type, id string) Value {
	v := ReferenceValue{Keys: make([]plan.Key, len(targets))}
	for i, t := range targets {
		v.Keys[i] = plan.Key{Type: t, ID: id}
	}
	return v
}
