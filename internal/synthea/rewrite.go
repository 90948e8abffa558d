package synthea

import (
	"net/url"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// Bounds of the tables that turn references into literal ones.
const (
	// maxEntries bounds the names of one bundle: about 150 bytes each, so 80
	// MiB at most. A patient on dialysis for decades has about 40,000 entries.
	maxEntries = 1 << 19
	// maxProviders bounds the identifiers of organizations, locations and
	// practitioners in one folder: about 250 bytes each. All of Synthea's
	// hospitals and offices in the USA are some hundred thousand.
	maxProviders = 1 << 21
)

// providerTypes are what Synthea's conditional references point at.
var providerTypes = [...]string{"Organization", "Location", "Practitioner", "PractitionerRole"}

// ambiguous stands in an index for a name that several resources carry: a
// server would refuse the reference (R4 http.html#trules, conditional
// references: "no matches, or multiple matches: the transaction fails").
const ambiguous = ""

// names turns the text of a reference into Type/id.
type names map[string]string

// add notes that text means target, or that it is ambiguous.
func (n names) add(text, target string, most int) error {
	old, known := n[text]
	switch {
	case !known && len(n) >= most:
		return fault.New(fault.TooLarge, "synthea.Dir", "more than %d names to resolve references by", most)
	case known && old != target:
		target = ambiguous
	}
	n[text] = target
	return nil
}

// addProvider notes the conditional references that mean this resource, if it
// is of a type that such references point at.
func (n names) addProvider(r fhir.Node, target string) error {
	kind := r.ResourceType()
	if !isProvider(kind) {
		return nil
	}
	for id := range r.Get("identifier").Items() {
		system, value := id.Get("system").Text(), id.Get("value").Text()
		if value == "" {
			continue
		}
		if err := n.add(kind+"?identifier="+system+"|"+value, target, maxProviders); err != nil {
			return err
		}
	}
	return nil
}

func isProvider(kind string) bool {
	return slices.Contains(providerTypes[:], kind)
}

// resolver knows what the references of one bundle, or of one NDJSON file,
// mean.
type resolver struct {
	bundle    names // fullUrl → Type/id
	providers names // Type?identifier=system|value → Type/id
}

// resolve gives the literal reference for text. done is false when text stays
// as it is: literal already, contained, or of a kind that no server resolves.
func (r resolver) resolve(text string) (literal string, done bool, err error) {
	urn := strings.HasPrefix(text, "urn:uuid:")
	conditional := !urn && isConditional(text)
	if conditional {
		literal, done = r.providers[plainQuery(text)]
	} else {
		literal, done = r.bundle[text]
	}
	switch {
	case done && literal == ambiguous:
		return "", false, unresolved(text, "several resources of the folder carry this name")
	case !done && conditional:
		return "", false, unresolved(text, "no resource of the folder carries this identifier")
	case !done && urn:
		return "", false, unresolved(text, "no entry of the same bundle has this fullUrl")
	}
	return literal, done, nil
}

func unresolved(text, why string) error {
	return &fault.Error{Kind: fault.Invalid, Op: "synthea.resolve", Subject: text, Detail: why,
		Hint: "Synthea's hospital and practitioner bundles have to lie in the same folder as the patients"}
}

// isConditional reports whether text is Type?query.
func isConditional(text string) bool {
	kind, _, found := strings.Cut(text, "?")
	return found && kind != "" && !strings.ContainsAny(kind, ":/#")
}

// plainQuery undoes the percent encoding that a conditional reference may
// carry (Synthea writes none).
func plainQuery(text string) string {
	if !strings.Contains(text, "%") {
		return text
	}
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

// target is Type/id of a bundle entry: its own id, else the UUID of its
// fullUrl, which is what a server would mint the id from.
func (e entry) target() (string, error) {
	kind, id := e.resource.ResourceType(), e.id()
	switch {
	case kind == "":
		return "", fault.New(fault.Invalid, "synthea.entry", "a resource without resourceType")
	case !fhir.ValidID(id):
		return "", fault.New(fault.Invalid, "synthea.entry", "a %s without a valid id", kind)
	}
	return kind + "/" + id, nil
}

func (e entry) id() string {
	if id := e.resource.Get("id"); id.Exists() {
		return id.Text()
	}
	return strings.TrimPrefix(e.fullURL, "urn:uuid:")
}

// splice is a span of the source that the line writes differently.
type splice struct {
	from, to int
	with     []byte // JSON
}

// appendLine appends the resource as a line of NDJSON: references literal, an
// id where there was none, no white space; else as it is.
func (r resolver) appendLine(dst []byte, e entry) ([]byte, error) {
	splices, err := r.splices(e)
	if err != nil {
		return dst, err
	}
	src, at := e.resource.Document().Bytes(), e.resource.Offset()
	end := at + len(e.resource.Raw())
	for _, s := range splices {
		dst = append(fhir.AppendCompact(dst, src[at:s.from]), s.with...)
		at = s.to
	}
	return append(fhir.AppendCompact(dst, src[at:end]), '\n'), nil
}

// splices are in the order of the source.
func (r resolver) splices(e entry) ([]splice, error) {
	var out []splice
	for ref := range fhir.References(e.resource) {
		literal, done, err := r.resolve(ref.Text())
		if err != nil {
			return nil, placed(err, ref)
		}
		if done {
			from := ref.Offset()
			out = append(out, splice{from, from + len(ref.Raw()), fhir.AppendString(nil, literal)})
		}
	}
	if !e.resource.Get("id").Exists() {
		kind := e.resource.Get("resourceType")
		behind := kind.Offset() + len(kind.Raw())
		with := fhir.AppendString([]byte(`,"id":`), e.id())
		out = append(out, splice{behind, behind, with})
		slices.SortFunc(out, func(a, b splice) int { return a.from - b.from })
	}
	return out, nil
}

// placed adds to err where in its resource a reference stands.
func placed(err error, ref fhir.Node) error {
	found := *fault.From(err)
	found.Place = []fault.Issue{{Kind: found.Kind, Detail: found.Detail, Expression: ref.Path()}}
	return &found
}
