package terminology

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// codeSystem is a code system as a graph: each code with what stands right above
// and right below it.
type codeSystem struct {
	codes      []string // in the order of the definition
	under      map[string][]string
	over       map[string][]string
	properties map[string]map[string][]string // code → property → values
}

// definition is what is read of a CodeSystem
// (https://hl7.org/fhir/R4/codesystem.html).
type definition struct {
	URL     string
	Content string
	Concept []concept
}

type concept struct {
	Code     string
	Display  string
	Property []map[string]any
	Concept  []concept
}

// maxNesting bounds concepts within concepts. The parser of resources bounds
// documents lower; definitions of other origin are held to it here.
const maxNesting = 200

// The properties that draw a hierarchy beside nested concepts
// (https://hl7.org/fhir/R4/codesystem-concept-properties.html).
const (
	propertyParent = "parent"
	propertyChild  = "child"
)

// system finds and reads a code system; nil where its content is not at hand: it
// is not there, or is only an example, a fragment or a name.
func (t *Terms) system(canonical string) (*codeSystem, error) {
	if s, read := t.systems[canonical]; read {
		return s, nil
	}
	raw, err := t.find(typeCodeSystem, canonical)
	if err != nil {
		return nil, err
	}
	var s *codeSystem
	if raw != nil {
		if s, err = readSystem(raw); err != nil {
			return nil, err
		}
	}
	t.systems[canonical] = s
	return s, nil
}

func (t *Terms) needSystem(canonical string) (*codeSystem, error) {
	s, err := t.system(canonical)
	if s == nil && err == nil {
		err = notAtHand(canonical)
	}
	return s, err
}

func readSystem(raw []byte) (*codeSystem, error) {
	var d definition
	if err := json.Unmarshal(raw, &d); err != nil {
		return nil, fault.Wrap(fault.Internal, "terminology.readSystem", err)
	}
	if d.Content != "" && d.Content != "complete" {
		return nil, nil
	}
	s := &codeSystem{under: map[string][]string{}, over: map[string][]string{}, properties: map[string]map[string][]string{}}
	return s, s.add("", d.Concept, 0)
}

func (s *codeSystem) add(parent string, list []concept, depth int) error {
	if depth > maxNesting {
		return fault.New(fault.TooCostly, "terminology.readSystem", "concepts nested too deep")
	}
	for _, c := range list {
		s.codes = append(s.codes, c.Code)
		if parent != "" {
			s.join(parent, c.Code)
		}
		s.describe(c)
		if err := s.add(c.Code, c.Concept, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (s *codeSystem) join(parent, child string) {
	s.under[parent] = append(s.under[parent], child)
	s.over[child] = append(s.over[child], parent)
}

// describe keeps a concept's properties, and draws the hierarchy that they tell.
func (s *codeSystem) describe(c concept) {
	values := map[string][]string{}
	if c.Display != "" {
		values["display"] = []string{c.Display}
	}
	for _, p := range c.Property {
		code, _ := p["code"].(string)
		for name, v := range p {
			if name == "code" {
				continue
			}
			text := propertyText(v)
			values[code] = append(values[code], text)
			switch code {
			case propertyParent:
				s.join(text, c.Code)
			case propertyChild:
				s.join(c.Code, text)
			}
		}
	}
	if len(values) > 0 {
		s.properties[c.Code] = values
	}
}

// propertyText is the value of a property as a filter compares it: the code of a
// Coding, else the text.
func propertyText(v any) string {
	if coding, ok := v.(map[string]any); ok {
		v = coding["code"]
	}
	return fmt.Sprint(v)
}

// has reports whether a property of a code, or the code itself, is as wanted.
func (s *codeSystem) has(code, property string, wanted func(string) bool) bool {
	switch property {
	case "code", "concept":
		return wanted(code)
	case propertyParent:
		return anyOf(s.over[code], wanted)
	case propertyChild:
		return anyOf(s.under[code], wanted)
	}
	return anyOf(s.properties[code][property], wanted)
}

func anyOf(list []string, wanted func(string) bool) bool {
	for _, v := range list {
		if wanted(v) {
			return true
		}
	}
	return false
}

// below is everything beneath a code, without it.
func (s *codeSystem) below(code string) map[string]bool { return reach(s.under, code) }

// above is everything over a code, without it.
func (s *codeSystem) above(code string) map[string]bool { return reach(s.over, code) }

// reach walks edges from a code; a circle ends where it began.
func reach(edges map[string][]string, from string) map[string]bool {
	seen := map[string]bool{}
	for open := slices.Clone(edges[from]); len(open) > 0; {
		next := open[len(open)-1]
		open = open[:len(open)-1]
		if !seen[next] {
			seen[next] = true
			open = append(open, edges[next]...)
		}
	}
	delete(seen, from)
	return seen
}
