package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// configFile is the JSON file of --config: one object, whose members are flags
// by their names without dashes in front, for example
//
//	{"listen": "0.0.0.0:8080", "public-url": "https://fhir.example.org", "cache-mib": 512}
//
// The command line and the environment go before it. A member that is no flag is
// refused, so that a slip does not leave a default in force.
type configFile map[string]any

func readConfig(r io.Reader) (kong.Resolver, error) {
	members := configFile{}
	dec := json.NewDecoder(r)
	dec.UseNumber()
	if err := dec.Decode(&members); err != nil {
		return nil, fmt.Errorf("the configuration file is not a JSON object: %w", err)
	}
	return members, nil
}

// Validate refuses members that no command has as a flag.
func (c configFile) Validate(app *kong.Application) error {
	known := map[string]bool{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known[flag.Name] = true
		}
		return next(nil)
	})
	for name := range c {
		if !known[name] {
			return fmt.Errorf("the configuration file has %q, which is no flag of any command", name)
		}
	}
	return err
}

// Resolve gives a flag its value from the file; nil is none, also where the
// environment has one.
func (c configFile) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	switch v := c[flag.Name].(type) {
	case nil:
		return nil, nil
	case []any:
		texts := make([]string, len(v))
		for i, item := range v {
			texts[i] = fmt.Sprint(item)
		}
		return strings.Join(texts, ","), nil
	case map[string]any:
		return nil, fmt.Errorf("the configuration file's %q is an object; a flag has a plain value", flag.Name)
	default:
		return fmt.Sprint(v), nil
	}
}
