package iam

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// parseYAML reads one YAML document of the core tags. Aliases are written out
// within nodesMax; a member twice, a merge key and a tag of one's own are
// refused.
func parseYAML(text []byte) (*node, error) {
	var document yaml.Node
	if err := yaml.Load(text, &document); err != nil {
		return nil, yamlFault(err)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, syntax(1, 1, "the file is empty")
	}
	p := &yamlTree{}
	return p.value(document.Content[0], "", 0)
}

// yamlFault keeps the library's words, which name the line.
func yamlFault(err error) error {
	if found, ok := errors.AsType[*yaml.LoadErrors](err); ok && len(found.Errors) > 0 {
		err = found.Errors[0]
	}
	if found, ok := errors.AsType[*yaml.LoadError](err); ok {
		return syntax(found.Mark.Line, found.Mark.Column, "not YAML: %s", found.Message)
	}
	return &fault.Error{Kind: fault.Syntax, Op: opParse, Detail: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: ")}
}

type yamlTree struct{ nodes int }

func (p *yamlTree) value(y *yaml.Node, path string, depth int) (*node, error) {
	if p.nodes++; p.nodes > nodesMax {
		return nil, syntax(y.Line, y.Column, "more than %d values", nodesMax)
	}
	if depth > depthMax {
		return nil, syntax(y.Line, y.Column, "more than %d levels", depthMax)
	}
	n := &node{path: path, line: y.Line, col: y.Column}
	switch y.Kind {
	case yaml.AliasNode:
		return p.value(y.Alias, path, depth+1) // a cycle ends at depthMax
	case yaml.MappingNode:
		n.kind = isObject
		return n, p.object(n, y, depth)
	case yaml.SequenceNode:
		n.kind = isList
		return n, p.list(n, y, depth)
	case yaml.ScalarNode:
		return n, scalarOf(n, y)
	}
	return nil, syntax(y.Line, y.Column, "not understood")
}

// scalarOf takes a scalar over as it is written. A date is text: a policy's
// version looks like one.
func scalarOf(n *node, y *yaml.Node) error {
	n.text = y.Value
	switch tag := y.ShortTag(); tag {
	case "!!str", "!!timestamp":
		n.kind = isText
	case "!!int", "!!float":
		n.kind = isNumber
	case "!!bool":
		n.kind = isBool
	case "!!null":
		n.kind = isNull
	default:
		return syntax(y.Line, y.Column, "the tag %s is not understood", tag)
	}
	return nil
}

func (p *yamlTree) object(n *node, y *yaml.Node, depth int) error {
	seen := make(map[string]bool, len(y.Content)/2)
	for i := 0; i+1 < len(y.Content); i += 2 {
		key := y.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			return syntax(key.Line, key.Column, "a member's name must be text")
		case seen[key.Value]:
			return syntax(key.Line, key.Column, "%q is there twice", key.Value)
		}
		seen[key.Value] = true
		value, err := p.value(y.Content[i+1], below(n.path, key.Value), depth+1)
		if err != nil {
			return err
		}
		n.members = append(n.members, member{key.Value, value})
	}
	return nil
}

func (p *yamlTree) list(n *node, y *yaml.Node, depth int) error {
	for i, item := range y.Content {
		value, err := p.value(item, fmt.Sprintf("%s[%d]", n.path, i), depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, value)
	}
	return nil
}
