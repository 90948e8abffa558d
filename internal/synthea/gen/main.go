// Command gen packs a folder of Synthea's output into the data set that the
// binary carries.
//
//	gen -in FOLDER -out internal/synthea/data -generator org.mitre.synthea:synthea:3.3.0
//
// It reads the folder through synthea.Dir, which makes the references literal,
// and writes parts of NDJSON, each one zstd frame, with manifest.json beside
// them: the providers first, then whole patients in the order of their files.
// The same folder gives the same bytes. generate.sh runs Synthea and then this.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/synthea"
)

// patientParts is how many parts the patients are cut into: parts can be loaded
// in parallel, and a load resumes at the start of one.
const patientParts = 15

// maxPacked is what the binary may carry (bytes of zstd).
const maxPacked = 16 << 20

func main() {
	in := flag.String("in", "", "folder of Synthea's output")
	out := flag.String("out", "", "folder to write the parts to; parts in it are replaced")
	generator := flag.String("generator", "", "what made the input, for the manifest")
	flag.Parse()
	if err := run(context.Background(), *in, *out, *generator); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, in, out, generator string) error {
	source, err := synthea.Dir(in)
	if err != nil {
		return err
	}
	files, err := source.Parts(ctx)
	if err != nil {
		return err
	}
	p := packer{manifest: synthea.Manifest{Generator: generator}}
	for i, group := range groups(files) {
		if err := p.part(ctx, partName(i), group); err != nil {
			return err
		}
	}
	if p.size() > maxPacked {
		return fmt.Errorf("the parts have %d bytes, more than the %d the binary may carry: take fewer years of history", p.size(), maxPacked)
	}
	fmt.Println(summary(synthea.Count(files), p.size()))
	return p.write(out)
}

// removeParts removes the parts of an earlier run.
func removeParts(out string) error {
	old, err := filepath.Glob(filepath.Join(out, "*.zst"))
	for _, name := range old {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// groups puts the files without a patient first, and cuts the rest, in their
// order, into patientParts groups of about as many resources each.
func groups(files []synthea.Part) [][]synthea.Part {
	out := make([][]synthea.Part, 1, patientParts+1)
	var patients []synthea.Part
	for _, f := range files {
		if f.Types["Patient"] == 0 {
			out[0] = append(out[0], f)
		} else {
			patients = append(patients, f)
		}
	}
	total, before := synthea.Count(patients).Resources, 0
	for _, f := range patients {
		if len(out) == 1 || before*patientParts >= total*(len(out)-1) {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], f)
		before += f.Resources
	}
	return out
}

func partName(i int) string {
	if i == 0 {
		return "00-providers.ndjson.zst"
	}
	return fmt.Sprintf("%02d-patients.ndjson.zst", i)
}

// packer holds everything until it is known to fit.
type packer struct {
	manifest synthea.Manifest
	packed   [][]byte // by part
}

// part packs one part; the patients of a group follow each other.
func (p *packer) part(ctx context.Context, name string, files []synthea.Part) error {
	var text bytes.Buffer
	for _, f := range files {
		if err := copyLines(ctx, &text, f); err != nil {
			return err
		}
	}
	// One goroutine, so that the bytes depend on nothing but the input.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	stats := synthea.Count(files)
	p.packed = append(p.packed, enc.EncodeAll(text.Bytes(), nil))
	p.manifest.Parts = append(p.manifest.Parts, synthea.ManifestEntry{
		Name: name, Bytes: int64(text.Len()), Resources: stats.Resources, Types: stats.Types,
	})
	return enc.Close()
}

func copyLines(ctx context.Context, dst *bytes.Buffer, part synthea.Part) error {
	r, err := part.Open(ctx)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, r)
	return errors.Join(err, r.Close())
}

func (p *packer) size() int64 {
	total := 0
	for _, b := range p.packed {
		total += len(b)
	}
	return int64(total)
}

// write replaces the parts in a folder.
func (p *packer) write(out string) error {
	text, err := json.MarshalIndent(p.manifest, "", " ")
	if err = errors.Join(err, removeParts(out)); err != nil {
		return err
	}
	for i, e := range p.manifest.Parts {
		if err := os.WriteFile(filepath.Join(out, e.Name), p.packed[i], 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(out, "manifest.json"), append(text, '\n'), 0o644)
}

func summary(s synthea.Stats, packed int64) string {
	return fmt.Sprintf("%d patients, %d resources of %d types, %.1f MiB packed",
		s.Patients, s.Resources, len(s.Types), float64(packed)/(1<<20))
}
