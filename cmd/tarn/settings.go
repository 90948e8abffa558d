package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
)

// datastoreSettings shows or changes a data store's operator settings.
type datastoreSettings struct {
	connection
	ID     string            `arg:"" help:"Data store id."`
	Preset string            `help:"Begin from a whole set: tarn (the defaults) or healthlake (AWS's limits)." enum:",tarn,healthlake" default:""`
	File   string            `help:"JSON file with an object of settings." type:"existingfile"`
	Set    map[string]string `help:"Settings to change; their names are those that are shown." placeholder:"NAME=VALUE"`
	Reset  []string          `help:"Settings to set back to the default." placeholder:"NAME"`
}

// members are the settings to change, as JSON by name.
func (c *datastoreSettings) members() (map[string]json.RawMessage, error) {
	members := map[string]json.RawMessage{}
	if c.File != "" {
		raw, err := os.ReadFile(c.File)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &members); err != nil {
			return nil, fmt.Errorf("%s is not a JSON object: %w", c.File, err)
		}
	}
	for name, text := range c.Set {
		if !json.Valid([]byte(text)) {
			return nil, fmt.Errorf("--set %s=%s: a value is a number, true or false", name, text)
		}
		members[name] = json.RawMessage(text)
	}
	for _, name := range c.Reset {
		members[name] = json.RawMessage("null")
	}
	return members, nil
}

// Run shows the settings, changed where asked.
func (c *datastoreSettings) Run(ctx context.Context) error {
	members, err := c.members()
	if err != nil {
		return err
	}
	operation, in := "DescribeDatastoreSettings", map[string]any{"DatastoreId": c.ID}
	if c.Preset != "" || len(members) > 0 {
		operation, in["Settings"] = "UpdateDatastoreSettings", members
	}
	if c.Preset != "" {
		in["Preset"] = strings.ToUpper(c.Preset)
	}
	var answer struct {
		DatastoreId         string
		Settings, Effective map[string]json.RawMessage
	}
	if err := c.call(ctx, operation, in, &answer); err != nil {
		return err
	}
	if c.Output == "json" {
		return printJSON(answer)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "SETTING\tVALUE\t")
	for _, name := range slices.Sorted(maps.Keys(answer.Effective)) {
		note := "default"
		if _, set := answer.Settings[name]; set {
			note = "set"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, answer.Effective[name], note)
	}
	return w.Flush()
}
