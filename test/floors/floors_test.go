// Package floors keeps the architecture: which room may import which.
package floors

import (
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/tarn-fhir/tarn/internal/testpath"
)

const module = "github.com/tarn-fhir/tarn/"

// floors lists the rooms from the words up. A package may import only packages
// of lower floors, and those of its own floor only where siblings says so.
var floors = []struct {
	name  string
	rooms []string
}{
	{"the closed list of errors", []string{"internal/fault"}},
	{"words", []string{"internal/arn"}},
	{"plan", []string{"internal/search/plan"}},
	{"languages: pure, no I/O, no clock", []string{"internal/fhir", "internal/fhir/r4", "internal/fhir/r4/gen", "internal/fhir/dictionary", "internal/fhir/xml", "internal/fhirpath", "internal/patch", "internal/search/ucum", "internal/search", "internal/search/oracle", "internal/searchparam", "internal/terminology", "internal/terminology/gen", "internal/validate"}},
	{"ground: touches the world, knows no search", []string{"internal/durable", "internal/blob", "internal/seal", "internal/seal/localkms", "internal/seal/awskms", "internal/sigv4", "internal/iam", "internal/throttle", "internal/synthea", "internal/synthea/gen", "internal/fhir/dictionary/gen"}},
	{"the store's contract", []string{"internal/store"}},
	{"engines", []string{"internal/store/memory", "internal/store/lsm", "internal/store/storetest"}},
	{"audit and records", []string{"internal/audit", "internal/backup", "internal/record"}},
	{"jobs", []string{"internal/job"}},
	{"principals that the server keeps", []string{"internal/principals"}},
	{"tokens and scopes", []string{"internal/smart", "internal/smart/awslambda", "internal/devidp"}},
	{"interactions and bulk", []string{"internal/export", "internal/interaction", "internal/bulk"}},
	{"control plane's domain", []string{"internal/datastore", "internal/reindex"}},
	{"wires: they translate, and decide nothing", []string{"internal/fhirapi", "internal/awsapi", "internal/awsquery"}},
	{"the door", []string{"internal/gateway"}},
	{"cmd: the only place that knows everything", []string{"cmd/tarn"}},
}

// siblings are the imports allowed within a floor: from → to.
var siblings = map[string][]string{
	"internal/fhir/r4":             {"internal/fhir"},
	"internal/fhir/r4/gen":         {"internal/fhir", "internal/fhir/r4"},
	"internal/fhirpath":            {"internal/fhir", "internal/fhir/r4"},
	"internal/patch":               {"internal/fhir", "internal/fhir/r4", "internal/fhirpath"},
	"internal/search":              {"internal/fhir", "internal/fhir/r4", "internal/search/ucum"},
	"internal/search/oracle":       {"internal/fhir", "internal/fhir/r4", "internal/fhirpath", "internal/search", "internal/search/ucum"},
	"internal/searchparam":         {"internal/fhir", "internal/fhir/r4", "internal/fhirpath", "internal/search"},
	"internal/terminology":         {"internal/search"},
	"internal/validate":            {"internal/fhir", "internal/fhir/r4", "internal/fhirpath"},
	"internal/iam":                 {"internal/durable"},
	"internal/seal/localkms":       {"internal/seal"},
	"internal/smart/awslambda":     {"internal/smart"},
	"internal/seal/awskms":         {"internal/seal"},
	"internal/fhir/xml":            {"internal/fhir", "internal/fhir/r4"},
	"internal/fhir/dictionary":     {"internal/fhir/r4"},
	"internal/fhir/dictionary/gen": {"internal/synthea"},
	"internal/synthea/gen":         {"internal/synthea"},
	"internal/store/storetest":     {"internal/store/memory"},
	"internal/interaction":         {"internal/export"},
	"internal/gateway":             {},
	"internal/store/lsm":           {},
	"internal/store/memory":        {},
}

// onlyCmdAndTests are rooms that no room but cmd may import: engines are chosen
// where the server is wired.
var onlyCmd = map[string]bool{"internal/store/memory": true, "internal/store/lsm": true, "internal/store/storetest": true}

// anywhere are rooms that stand outside the floors.
var anywhere = map[string]bool{"internal/testpath": true}

type pkg struct {
	ImportPath string
	Imports    []string
}

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./cmd/...", "./internal/...")
	cmd.Dir = testpath.Root()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func TestFloors(t *testing.T) {
	floor := map[string]int{}
	for i, f := range floors {
		for _, room := range f.rooms {
			floor[room] = i
		}
	}
	for _, p := range list(t) {
		from, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours || anywhere[from] {
			continue
		}
		at, known := floor[from]
		if !known {
			t.Errorf("%s stands on no floor: give it a place in test/floors, beside rooms of its kind", from)
			continue
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours || anywhere[to] {
				continue
			}
			checkImport(t, from, to, at, floor)
		}
	}
}

func checkImport(t *testing.T, from, to string, at int, floor map[string]int) {
	t.Helper()
	below, known := floor[to]
	switch {
	case !known:
		t.Errorf("%s imports %s, which stands on no floor", from, to)
	case onlyCmd[to] && from != "cmd/tarn" && !allowed(from, to):
		t.Errorf("%s imports the engine %s: engines are chosen in cmd and in tests only, everything else knows the contract (internal/store)", from, to)
	case below > at:
		t.Errorf("%s (%s) imports %s, which stands above it (%s): turn the dependency round with a small interface beside its user", from, floors[at].name, to, floors[below].name)
	case below == at && !allowed(from, to):
		t.Errorf("%s imports its sibling %s (%s): keep them apart, or argue for it in siblings", from, to, floors[at].name)
	}
}

func allowed(from, to string) bool {
	for _, ok := range siblings[from] {
		if ok == to {
			return true
		}
	}
	return false
}

// TestNothingIsCalledUtil keeps out rooms whose names say nothing.
func TestNothingIsCalledUtil(t *testing.T) {
	for _, p := range list(t) {
		name := p.ImportPath[strings.LastIndex(p.ImportPath, "/")+1:]
		switch name {
		case "util", "utils", "common", "helper", "helpers", "manager", "service", "misc":
			t.Errorf("%s: name the room after what is in it, in FHIR's or AWS's words", p.ImportPath)
		}
	}
}
