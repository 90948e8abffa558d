package search

import (
	"fmt"
	"slices"
)

// everyResource are the parameters that are no index entries: what the store
// knows of every resource. createdAt is HealthLake's.
var everyResource = map[string]func(p *parser, modifier string, pair Pair) (Cond, error){
	"_id":          (*parser).byID,
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
