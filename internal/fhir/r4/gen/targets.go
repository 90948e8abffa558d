package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

// structureIndex finds elements by type and member while the tables are made.
type structureIndex map[string]map[string]*r4.ElementInfo

func indexStructures(all []*r4.Structure) structureIndex {
	in := structureIndex{}
	for _, s := range all {
		in[s.Name] = map[string]*r4.ElementInfo{}
		for _, e := range s.Elements {
			in[s.Name][e.Name] = e
		}
	}
	return in
}

var (
	resolvesTo = regexp.MustCompile(`\.where\(resolve\(\) is ([A-Za-z]+)\)$`)
	plainPath  = regexp.MustCompile(`^[A-Za-z]+(\.[A-Za-z]+)+$`)
)

// reachable lists the types that references under an expression may point to.
// A definition for several types publishes one list of targets for all of them:
// clinical-patient says Patient and Group, though Observation.patient keeps
// Patients only, and clinical-encounter says EpisodeOfCare, which few of its
// types allow. What a type cannot hold is taken out, so that Observation?patient=1
// names one type. The answer is nil when any type can be reached or the
// expression is not a plain path.
func (in structureIndex) reachable(expression string) []string {
	var names []string
	for _, a := range alternatives(expression) {
		if m := resolvesTo.FindStringSubmatch(a); m != nil {
			names = append(names, m[1])
			continue
		}
		targets := in.targets(a)
		if len(targets) == 0 || slices.Contains(targets, "Resource") {
			return nil
		}
		names = append(names, targets...)
	}
	return names
}

// targets lists the targets of the element that a plain path names.
func (in structureIndex) targets(path string) []string {
	if !plainPath.MatchString(path) {
		return nil
	}
	words := strings.Split(path, ".")
	kind := words[0]
	var e *r4.ElementInfo
	for _, member := range words[1:] {
		if e = in[kind][member]; e == nil {
			return nil
		}
		kind = e.Type
	}
	var targets []string
	for _, t := range e.Types {
		targets = append(targets, t.Targets...)
	}
	return targets
}
