package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// definitions are the files of the package that the tables are made of, each
// kind sorted by nothing in particular; the builders sort.
type definitions struct {
	structures   []*structureDefinition
	params       []*searchParameter
	compartments []*compartmentDefinition
	valueSets    map[string]*valueSet
	codeSystems  map[string]*codeSystem
}

// readSource reads a folder, a .tgz or a .tar.xz.
func readSource(ctx context.Context, source string) (*definitions, error) {
	d := &definitions{valueSets: map[string]*valueSet{}, codeSystems: map[string]*codeSystem{}}
	info, err := os.Stat(source)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		err = d.readFolder(source)
	} else {
		err = d.readArchive(ctx, source)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	if len(d.structures) == 0 || len(d.params) == 0 {
		return nil, fmt.Errorf("%s: no FHIR definitions in it", source)
	}
	return d, nil
}

func (d *definitions) readFolder(folder string) error {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		data, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return err
		}
		if err := d.add(e.Name(), data); err != nil {
			return err
		}
	}
	return nil
}

func (d *definitions) readArchive(ctx context.Context, file string) (err error) {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if strings.HasSuffix(file, ".xz") {
		return d.readXZ(ctx, f)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	return d.readTar(z)
}

// readXZ leaves the unpacking to the xz program: a library for one file read at
// development time would be one more dependency.
func (d *definitions) readXZ(ctx context.Context, f *os.File) error {
	xz := exec.CommandContext(ctx, "xz", "--decompress", "--stdout")
	xz.Stdin, xz.Stderr = f, os.Stderr
	out, err := xz.StdoutPipe()
	if err != nil {
		return err
	}
	if err := xz.Start(); err != nil {
		return err
	}
	readErr := d.readTar(out)
	if readErr != nil {
		_ = xz.Process.Kill() // its answer is no longer wanted; Wait reports
	}
	return errors.Join(readErr, xz.Wait())
}

func (d *definitions) readTar(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, r)
			return err
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(t)
		if err != nil {
			return err
		}
		if err := d.add(path.Base(h.Name), data); err != nil {
			return err
		}
	}
}

// add takes one file by its name, <ResourceType>-<id>.json; kinds that the
// tables do not need are passed over.
func (d *definitions) add(name string, data []byte) error {
	kind, _, _ := strings.Cut(name, "-")
	var err error
	switch kind {
	case "StructureDefinition":
		err = keep(data, &d.structures)
	case "SearchParameter":
		err = keep(data, &d.params)
	case "CompartmentDefinition":
		err = keep(data, &d.compartments)
	case "ValueSet":
		v := new(valueSet)
		err = json.Unmarshal(data, v)
		d.valueSets[v.URL] = v
	case "CodeSystem":
		c := new(codeSystem)
		err = json.Unmarshal(data, c)
		d.codeSystems[c.URL] = c
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func keep[T any](data []byte, to *[]*T) error {
	v := new(T)
	*to = append(*to, v)
	return json.Unmarshal(data, v)
}
