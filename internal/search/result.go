package search

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// resultParameters shape the answer instead of choosing it (R4 3.1.1.5). page
// is Tarn's and HealthLake's.
var resultParameters = map[string]func(*parser, Pair) error{
	"_sort":          (*parser).sort,
	"_count":         (*parser).setCount,
	"_total":         (*parser).total,
	"_summary":       (*parser).summary,
	"_elements":      (*parser).elements,
	"_include":       (*parser).include,
	"_revinclude":    (*parser).include,
	"_format":        func(p *parser, pair Pair) error { p.q.Format = pair.Value; return nil },
	"_pretty":        (*parser).pretty,
	"_explain":       (*parser).explain,
	"_type":          (*parser).typed,
	"_contained":     (*parser).contained,
	"_containedType": (*parser).contained,
	"_score":         func(p *parser, pair Pair) error { return unsupported(pair, "results are not scored") },
	"page":           (*parser).page,
}

func (p *parser) typed(pair Pair) error {
	named, _ := p.typesIn(pair.Value) // chooseTypes has read it, and spoken of the others
	names := make([]string, len(named))
	for i, t := range named {
		names[i] = p.reg.Name(t)
	}
	p.q.understand(pair.Name, strings.Join(names, ","))
	return nil
}

func (p *parser) page(pair Pair) error {
	if pair.Value == "" {
		return invalid(pair, "is empty", "follow Bundle.link as it stands")
	}
	p.q.Page = pair.Value
	return nil
}

func (p *parser) pretty(pair Pair) (err error) {
	p.q.Pretty, err = boolean(pair)
	return err
}

func (p *parser) explain(pair Pair) (err error) {
	if p.q.Explain, err = boolean(pair); err == nil {
		p.q.understand(pair.Name, pair.Value)
	}
	return err
}

func boolean(pair Pair) (bool, error) {
	switch pair.Value {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, invalid(pair, "is neither true nor false", "")
}

func (p *parser) contained(pair Pair) error {
	names := containedNames[:]
	if pair.Name == "_containedType" {
		names = []string{"container", "contained"}
	}
	i := slices.Index(names, pair.Value)
	if i < 0 {
		return invalid(pair, "is not one of "+strings.Join(names, ", "), "")
	}
	if pair.Name == "_containedType" {
		p.q.ContainedAlone = i == 1
	} else {
		p.q.Contained = Contained(i)
	}
	p.q.understand(pair.Name, pair.Value)
	return nil
}

func (p *parser) setCount(pair Pair) error {
	n, err := strconv.Atoi(pair.Value)
	if err != nil || n < 0 {
		return invalid(pair, "is not a whole number from 0 up", "")
	}
	p.count = &n
	return nil
}

// settleCount cuts _count to its bounds and says so in self.
func (p *parser) settleCount() error {
	most, normal := p.o.MaxCount, p.o.DefaultCount
	if most == 0 {
		most = MaxCount
	}
	if normal == 0 {
		normal = DefaultCount
	}
	p.q.Count = min(normal, most)
	if p.count == nil {
		return nil
	}
	if n := *p.count; p.o.RefuseLargeCount && (n > most || n == 0) {
		return invalid(Pair{"_count", strconv.Itoa(n)}, fmt.Sprintf("is not from 1 to %d", most), "")
	}
	p.q.Count = min(*p.count, most)
	p.q.understandCount()
	return nil
}

func (p *parser) total(pair Pair) error {
	modes := map[string]plan.TotalMode{"none": plan.TotalNone, "estimate": plan.TotalEstimate, "accurate": plan.TotalExact}
	mode, ok := modes[pair.Value]
	if !ok {
		return invalid(pair, "is not one of none, estimate, accurate", "")
	}
	p.q.Total = mode
	p.q.understand(pair.Name, pair.Value)
	return nil
}

func (p *parser) summary(pair Pair) error {
	i := slices.Index(summaryNames[:], pair.Value)
	if i < 0 {
		return invalid(pair, "is not one of "+strings.Join(summaryNames[:], ", "), "")
	}
	p.q.Summary = Summary(i)
	p.q.understand(pair.Name, pair.Value)
	return nil
}

func (p *parser) elements(pair Pair) error {
	for name := range strings.SplitSeq(pair.Value, ",") {
		// The form Type.element is R4's for a search over several types.
		if typeName, element, ok := strings.Cut(name, "."); ok {
			if _, known := p.reg.Type(typeName); known {
				name = element
			}
		}
		if name = strings.TrimSpace(name); name == "" {
			return invalid(pair, "lists an empty name", "")
		}
		p.q.Elements = append(p.q.Elements, name)
	}
	if len(p.q.Elements) > MaxElements {
		return tooMany("elements", MaxElements)
	}
	p.q.understand(pair.Name, pair.Value)
	return nil
}

func (p *parser) sort(pair Pair) error {
	var keys []SortKey
	for rule := range strings.SplitSeq(pair.Value, ",") {
		code, desc := strings.CutPrefix(strings.TrimSpace(rule), "-")
		key, err := p.sortKey(code, pair)
		if err != nil {
			return p.maybeIgnore(pair, err)
		}
		key.Desc = desc
		keys = append(keys, key)
	}
	if p.q.Sort = append(p.q.Sort, keys...); len(p.q.Sort) > MaxSortKeys {
		return tooMany("rules in _sort", MaxSortKeys)
	}
	p.q.understand(pair.Name, pair.Value)
	return nil
}

func (p *parser) sortKey(code string, pair Pair) (SortKey, error) {
	switch code {
	case "_lastUpdated":
		return SortKey{By: plan.ByUpdated}, nil
	case "_id":
		return SortKey{By: plan.ByID}, nil
	case "_type":
		return SortKey{By: plan.ByType}, nil
	}
	key := SortKey{By: plan.ByParam}
	var refused error
	for _, t := range p.q.Types {
		param, err := p.param(t, code, pair)
		if err != nil {
			refused = keep(refused, err)
			continue
		}
		if !sorts(param.Kind) {
			return key, invalid(pair, fmt.Sprintf("%s is a %s parameter, which has no order", code, param.Kind), "")
		}
		if !slices.Contains(key.Params, param) {
			key.Params = append(key.Params, param)
		}
	}
	if len(key.Params) == 0 {
		return key, refused
	}
	return key, nil
}

// include reads Type:parameter[:target], Type:* or * (R4 3.1.1.5.6), which some
// clients write *:*.
func (p *parser) include(pair Pair) error {
	name, modifier, _ := strings.Cut(pair.Name, ":")
	inc := Include{Reverse: name == "_revinclude", Iterate: modifier != ""}
	if err := p.includeSpec(&inc, pair); err != nil {
		return p.maybeIgnore(pair, err)
	}
	p.q.Includes = append(p.q.Includes, inc)
	if len(p.q.Includes) > MaxIncludes {
		return tooMany("includes", MaxIncludes)
	}
	p.q.understand(pair.Name, pair.Value)
	return nil
}

func (p *parser) includeSpec(inc *Include, pair Pair) error {
	parts := strings.Split(pair.Value, ":")
	if pair.Value == "*" || pair.Value == "*:*" {
		return nil
	}
	if len(parts) < 2 || len(parts) > 3 {
		return invalid(pair, "is not Type:parameter, Type:parameter:Target or *", "")
	}
	var ok bool
	if inc.Source, ok = p.reg.Type(parts[0]); !ok {
		return invalid(pair, fmt.Sprintf("%q is no resource type", parts[0]), "")
	}
	if len(parts) == 3 && parts[2] != "" {
		if inc.Target, ok = p.reg.Type(parts[2]); !ok {
			return invalid(pair, fmt.Sprintf("%q is no resource type", parts[2]), "")
		}
	}
	if parts[1] == "*" {
		return nil
	}
	param, err := p.reference(inc.Source, parts[1], pair)
	inc.Param = param
	if err == nil && inc.Target != 0 && !slices.Contains(p.targets(param), inc.Target) {
		err = invalid(pair, fmt.Sprintf("%s.%s never refers to %s", parts[0], parts[1], parts[2]), "")
	}
	return err
}

// sorts reports whether a kind of parameter has an order, that of its Main
// entries: tokens by code, uris as they are written, references by what they
// point to, in an order without meaning.
func sorts(k Kind) bool {
	switch k {
	case KindNumber, KindDate, KindString, KindQuantity, KindToken, KindReference, KindURI:
		return true
	}
	return false
}
