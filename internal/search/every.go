package search

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir"
)

// everyResource are the parameters that are no index entries: what the store
// knows of every resource. createdAt is HealthLake's.
var everyResource = map[string]func(p *parser, modifier string, pair Pair) (Cond, error){
	"_id":          (*parser).byID,
	"_list":        (*parser).inList,
	"_lastUpdated": func(p *parser, m string, pair Pair) (Cond, error) { return byTime(false, m, pair) },
	"createdAt":    func(p *parser, m string, pair Pair) (Cond, error) { return byTime(true, m, pair) },
}

func (p *parser) byID(modifier string, pair Pair) (Cond, error) {
	switch modifier {
	case "", "not":
	case "missing":
		return presentAlways(pair)
	default:
		return nil, invalid(pair, fmt.Sprintf("_id has no modifier :%s", modifier), "")
	}
	texts, err := alternatives(pair)
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		texts[i] = unescape(text)
	}
	slices.Sort(texts)
	return ByID{IDs: slices.Compact(texts), Not: modifier == "not"}, nil
}

// inList reads ids of lists whose items are looked for (R4 3.1.1.4.18). The lists
// that R4 names by function ("$current-problems") nobody has defined.
func (p *parser) inList(modifier string, pair Pair) (Cond, error) {
	if modifier != "" {
		return nil, invalid(pair, fmt.Sprintf("_list has no modifier :%s", modifier), "")
	}
	texts, err := alternatives(pair)
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		texts[i] = strings.TrimPrefix(unescape(text), "List/")
		if strings.HasPrefix(text, "$") {
			return nil, unsupported(pair, "lists by function are not offered by this server")
		}
		if !fhir.ValidID(texts[i]) {
			return nil, invalid(pair, fmt.Sprintf("%q is no id of a List", cut(text, maxSubjectBytes)), "")
		}
	}
	list, ok := p.reg.Type("List")
	if !ok {
		return nil, unsupported(pair, "this server has no lists")
	}
	item, err := p.reference(list, "item", pair)
	if err != nil {
		return nil, err
	}
	return Having{Param: item, From: On{list, ByID{IDs: texts}}}, nil
}

func byTime(created bool, modifier string, pair Pair) (Cond, error) {
	if modifier == "missing" {
		return presentAlways(pair)
	}
	if modifier != "" {
		return nil, invalid(pair, fmt.Sprintf("date parameters have no modifier :%s", modifier), modifierHint(KindDate))
	}
	texts, err := alternatives(pair)
	if err != nil {
		return nil, err
	}
	cond := ByTime{Created: created}
	for _, text := range texts {
		v, wrong := parseDateValue(text)
		if wrong != "" {
			return nil, invalid(pair, fmt.Sprintf("%q %s", cut(text, maxSubjectBytes), wrong), "")
		}
		cond.Values = append(cond.Values, v)
	}
	return cond, nil
}

// presentAlways reads :missing of what no resource lacks.
func presentAlways(pair Pair) (Cond, error) {
	switch pair.Value {
	case "true":
		return Never{}, nil
	case "false":
		return ByID{Not: true}, nil
	}
	return nil, invalid(pair, "is neither true nor false", "")
}
