package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/tarn-fhir/tarn/internal/synthea"
)

// TestRunPacks packs the hand-made clinic twice: parts hold what Dir gives, old
// ones are gone, and the bytes are the same.
func TestRunPacks(t *testing.T) {
	in := filepath.Join("..", "testdata", "clinic")
	first, second := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(second, "09-patients.ndjson.zst"), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{first, second} {
		if err := run(t.Context(), in, out, "test"); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(filepath.Join("..", "testdata", "clinic.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	names := fileNames(t, second)
	if !slices.Equal(names, []string{"00-providers.ndjson.zst", "01-patients.ndjson.zst", "manifest.json"}) {
		t.Fatalf("files are %v", names)
	}
	var got []byte
	for _, name := range names {
		a, b := read(t, first, name), read(t, second, name)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs between two runs", name)
		}
		if filepath.Ext(name) == ".zst" {
			got = append(got, unpack(t, a)...)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("packed\n%s\nwant\n%s", got, want)
	}
}

func fileNames(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	return names
}

func read(t *testing.T, folder, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func unpack(t *testing.T, packed []byte) []byte {
	t.Helper()
	d, err := zstd.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	text, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestGroupsKeepOrderAndEveryFile(t *testing.T) {
	files := []synthea.Part{{Name: "hospitals", Resources: 5, Types: map[string]int{"Organization": 5}}}
	for i := range 100 {
		n := 1 + i%7*10
		files = append(files, synthea.Part{Name: string(rune('!' + i)), Resources: n, Types: map[string]int{"Patient": 1, "Observation": n - 1}})
	}
	out := groups(files)
	if len(out) != patientParts+1 {
		t.Errorf("%d groups, want %d", len(out), patientParts+1)
	}
	var names, want []string
	for i, g := range out {
		if len(g) == 0 {
			t.Errorf("group %d is empty", i)
		}
		for _, f := range g {
			names = append(names, f.Name)
		}
	}
	for _, f := range files {
		want = append(want, f.Name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("order is %v", names)
	}
}
