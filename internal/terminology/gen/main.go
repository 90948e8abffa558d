// Command gen packs R4's value sets and code systems for package terminology.
//
//	go run ./internal/terminology/gen -source FOLDER -out internal/terminology/r4.ndjson.zst
//
// The folder is the unpacked package hl7.fhir.r4.core 4.0.1 (its "package"
// folder). Only what expansion reads is kept, one resource a line, sorted by
// file name, so that the same package gives the same bytes.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
)

func main() {
	source := flag.String("source", "", "folder of the unpacked FHIR package")
	out := flag.String("out", "internal/terminology/r4.ndjson.zst", "file to write")
	flag.Parse()
	if err := pack(*source, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// kept are the members that stay, of a resource and of everything within it.
var kept = map[string]bool{
	"resourceType": true, "url": true, "version": true, "content": true,
	"concept": true, "code": true, "property": true,
	"compose": true, "include": true, "exclude": true, "system": true, "filter": true, "op": true, "value": true, "valueSet": true,
	"valueCode": true, "valueString": true, "valueBoolean": true, "valueInteger": true, "valueCoding": true,
}

func pack(source, out string) error {
	files, err := filepath.Glob(filepath.Join(source, "*.json"))
	if err != nil {
		return err
	}
	var lines bytes.Buffer
	for _, file := range files {
		if err := add(&lines, file); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	if lines.Len() == 0 {
		return fmt.Errorf("%s: no value sets and code systems in it", source)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	return os.WriteFile(out, z.EncodeAll(lines.Bytes(), nil), 0o644)
}

func add(lines *bytes.Buffer, file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var resource map[string]any
	if err := json.Unmarshal(raw, &resource); err != nil {
		return err
	}
	if t := resource["resourceType"]; t != "ValueSet" && t != "CodeSystem" {
		return nil
	}
	delete(resource, "property") // of a CodeSystem: its declaration; of a concept: kept below
	delete(resource, "filter")
	line, err := json.Marshal(cut(resource))
	if err != nil {
		return err
	}
	lines.Write(append(line, '\n'))
	return nil
}

// cut drops the members that are not kept, at every depth, and properties that
// only tell a concept's editorial state.
func cut(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if !kept[name] {
				delete(v, name)
				continue
			}
			v[name] = cut(member)
		}
	case []any:
		list := v[:0]
		for _, item := range v {
			if p, ok := item.(map[string]any); ok && (p["code"] == "status" || p["code"] == "deprecationDate") && len(p) == 2 {
				continue
			}
			list = append(list, cut(item))
		}
		return list
	}
	return v
}
