// Command gen writes the tables of package r4 from HL7's R4 definitions.
//
//	gen -source DIR|FILE.tgz|FILE.tar.xz -out DIR
//
// It reads the definitions, gives numbers to resource types and search
// parameters by DIR/numbers.lock, which it only ever appends to, corrects what
// corrections.go lists, and writes DIR/r4.tables. Equal definitions and an equal
// lock give equal tables.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tarn-fhir/tarn/internal/fhir/r4"
)

const (
	lockFile   = "numbers.lock"
	tablesFile = "r4.tables"
)

func main() {
	source := flag.String("source", "", "the package hl7.fhir.r4.core 4.0.1: a folder of JSON files, a .tgz or a .tar.xz (which needs xz)")
	out := flag.String("out", ".", "the folder that holds numbers.lock and gets r4.tables")
	flag.Parse()
	if err := run(context.Background(), *source, *out); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, source, out string) error {
	lock, err := os.ReadFile(filepath.Join(out, lockFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	tables, numbers, err := generate(ctx, source, lock)
	if err != nil {
		return err
	}
	file, err := r4.Encode(tables)
	if err != nil {
		return err
	}
	// The lock goes first: tables must not hold a number that no lock keeps.
	if err := os.WriteFile(filepath.Join(out, lockFile), numbers, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, tablesFile), file, 0o644)
}

// generate makes the tables and the lock as it shall be.
func generate(ctx context.Context, source string, lock []byte) (*r4.Tables, []byte, error) {
	defs, err := readSource(ctx, source)
	if err != nil {
		return nil, nil, err
	}
	numbers, err := parseLock(bytes.NewReader(lock))
	if err != nil {
		return nil, nil, err
	}
	tables, err := build(defs, numbers)
	if err != nil {
		return nil, nil, err
	}
	if missing := numbers.unused(); len(missing) > 0 {
		return nil, nil, fmt.Errorf("%s: %q has a number but no definition: a number is never taken back (mark the line retired to give the thing up)", lockFile, missing[0])
	}
	return tables, numbers.format(), nil
}

func build(defs *definitions, numbers *lock) (*r4.Tables, error) {
	structures, err := buildStructures(defs.structures)
	if err != nil {
		return nil, err
	}
	types, err := numberTypes(structures, numbers)
	if err != nil {
		return nil, err
	}
	params, err := buildParams(defs.params, structures, types, numbers)
	if err != nil {
		return nil, err
	}
	compartments, err := buildCompartments(defs.compartments, types, params)
	if err != nil {
		return nil, err
	}
	sets, err := buildValueSets(defs, structures)
	if err != nil {
		return nil, err
	}
	return &r4.Tables{Types: types, Params: params, Compartments: compartments, Structures: structures, ValueSets: sets}, nil
}
