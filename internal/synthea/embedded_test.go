package synthea

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

// healthLakeTypes are the types that AWS's preload holds.
var healthLakeTypes = strings.Fields(`AllergyIntolerance CarePlan CareTeam Claim Condition Device
	DiagnosticReport Encounter ExplanationOfBenefit ImagingStudy Immunization Location
	MedicationAdministration MedicationRequest Observation Organization Patient Practitioner
	PractitionerRole Procedure Provenance`)

// maxPacked is what the binary may carry.
const maxPacked = 16 << 20

func embeddedParts(t *testing.T) []Part {
	t.Helper()
	parts, err := Embedded().Parts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return parts
}

func TestEmbeddedStats(t *testing.T) {
	parts := embeddedParts(t)
	if len(parts) < 8 {
		t.Errorf("%d parts, want at least 8 to load in parallel", len(parts))
	}
	stats := Count(parts)
	if stats.Patients < 100 {
		t.Errorf("%d patients, want at least 100", stats.Patients)
	}
	for _, kind := range healthLakeTypes {
		if stats.Types[kind] == 0 {
			t.Errorf("no %s", kind)
		}
	}
	sum := 0
	for _, n := range stats.Types {
		sum += n
	}
	if sum != stats.Resources {
		t.Errorf("types sum up to %d, want %d", sum, stats.Resources)
	}
	for kind := range parts[0].Types {
		if !isProvider(kind) {
			t.Errorf("the first part holds a %s", kind)
		}
	}
}

func TestEmbeddedSize(t *testing.T) {
	files, err := data.ReadDir("data")
	if err != nil {
		t.Fatal(err)
	}
	var total int64
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if total > maxPacked {
		t.Errorf("%d bytes, want at most %d", total, maxPacked)
	}
	if parts := embeddedParts(t); len(files) != len(parts)+1 {
		t.Errorf("%d files for %d parts and the manifest", len(files), len(parts))
	}
}

// graph collects what resources there are and what they refer to.
type graph struct {
	have    map[string]struct{} // Type/id
	refs    map[string]string   // Type/id → one resource that refers to it
	systems map[string]struct{} // code systems in use
}

// TestEmbeddedContent reads every line once.
func TestEmbeddedContent(t *testing.T) {
	g := graph{make(map[string]struct{}), make(map[string]string), make(map[string]struct{})}
	for _, part := range embeddedParts(t) {
		g.part(t, part)
	}
	for ref, from := range g.refs {
		if _, ok := g.have[ref]; !ok {
			t.Errorf("%s refers to %s, which is not in the set", from, ref)
		}
	}
	g.notices(t)
}

func (g *graph) part(t *testing.T, part Part) {
	t.Helper()
	stream, err := part.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	types := make(map[string]int)
	scan := bufio.NewScanner(stream)
	scan.Buffer(nil, maxEntryBytes)
	for scan.Scan() {
		doc, err := fhir.Parse(scan.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", part.Name, err)
		}
		types[doc.ResourceType()]++
		g.resource(t, doc)
		doc.Release()
	}
	if scan.Err() != nil {
		t.Fatalf("%s: %v", part.Name, scan.Err())
	}
	if !maps.Equal(types, part.Types) {
		t.Errorf("%s holds %v, its manifest says %v", part.Name, types, part.Types)
	}
}

func (g *graph) resource(t *testing.T, doc *fhir.Document) {
	t.Helper()
	key := doc.ResourceType() + "/" + doc.ID()
	if _, twice := g.have[key]; twice || !fhir.ValidID(doc.ID()) || doc.ResourceType() == "" {
		t.Errorf("%s: twice, or no valid key", key)
	}
	g.have[key] = struct{}{}
	for n := range fhir.References(doc.Root()) {
		switch ref := fhir.ParseReference(n.Text()); {
		case ref.Form == fhir.Relative && ref.Version == "":
			g.refs[n.Text()] = key
		case ref.Form != fhir.Contained || !contains(doc, ref.Fragment):
			t.Errorf("%s: %s is %q", key, n.Path(), n.Text())
		}
	}
	for n := range doc.Root().Descendants() {
		if n.Name() == "system" && n.Parent().Get("code").Exists() {
			g.systems[n.Text()] = struct{}{}
		}
	}
}

func contains(doc *fhir.Document, id string) bool {
	for c := range doc.Root().Get("contained").Items() {
		if c.Get("id").Is(id) {
			return true
		}
	}
	return false
}

// notices checks that NOTICE.md names every code system of the set.
func (g *graph) notices(t *testing.T) {
	t.Helper()
	notice, err := os.ReadFile("NOTICE.md")
	if err != nil {
		t.Fatal(err)
	}
	for system := range g.systems {
		if !bytes.Contains(notice, []byte("`"+system+"`")) && !bytes.Contains(notice, []byte("`"+prefix(system)+"`")) {
			t.Errorf("NOTICE.md does not name %s", system)
		}
	}
}

// prefix is the folder of a code system's URL, under which NOTICE.md names
// HL7's and CMS's many small ones together.
func prefix(system string) string {
	return system[:strings.LastIndexAny(system, "/:")+1]
}

func TestEmbeddedOpensAgain(t *testing.T) {
	part := embeddedParts(t)[0]
	first, second := readAll(t, part), readAll(t, part)
	if !bytes.Equal(first, second) {
		t.Error("a part read twice differs")
	}
	if n := bytes.Count(first, []byte("\n")); n != part.Resources {
		t.Errorf("%d lines, want %d", n, part.Resources)
	}
}

func TestManifestNamesItsGenerator(t *testing.T) {
	m, err := ReadManifest()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(m.Generator, "org.mitre.synthea:synthea:") {
		t.Errorf("generator is %q", m.Generator)
	}
}

func TestStreamEndsWithItsContext(t *testing.T) {
	sources := map[string]Source{"embedded": Embedded(), "folder": clinic(t)}
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			parts, err := source.Parts(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			stream, err := parts[0].Open(ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			if _, err := stream.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			cancel()
			if _, err := stream.Read(make([]byte, 10)); !fault.Is(err, fault.Canceled) {
				t.Errorf("after the context ended: %v", err)
			}
			if _, err := source.Parts(ctx); !fault.Is(err, fault.Canceled) {
				t.Errorf("parts with an ended context: %v", err)
			}
		})
	}
}

func readAll(t testing.TB, part Part) []byte {
	t.Helper()
	stream, err := part.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	return text
}

func BenchmarkEmbeddedRead(b *testing.B) {
	parts, err := Embedded().Parts(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	part := parts[1]
	for b.Loop() {
		b.SetBytes(int64(len(readAll(b, part))))
	}
}
