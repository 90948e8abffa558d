package blackbox

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// acknowledged is what one write was answered with: of which resource, which
// version, and what it wrote; "" is a deletion.
type acknowledged struct {
	id      int
	version string
	family  string
}

// rival writes resources that an import writes too, until it is told to stop.
func (d *datastore) rival(name string, among int, stop *atomic.Bool) (acks []acknowledged, err error) {
	random := rand.New(rand.NewPCG(7, uint64(len(name)+int(name[0]))))
	for n := 0; !stop.Load(); n++ {
		a := acknowledged{id: random.IntN(among)}
		request := process.Request{Method: "DELETE", URL: fmt.Sprintf("%s/Patient/p%d", d.base(), a.id)}
		if n%4 != 0 {
			a.family = fmt.Sprint(name, n)
			request.Method, request.Header = "PUT", map[string]string{"Content-Type": "application/fhir+json"}
			request.Body = fmt.Appendf(nil, `{"resourceType":"Patient","id":"p%d","name":[{"family":"%s"}]}`, a.id, a.family)
		}
		answer, err := d.Do(d.t.Context(), request)
		if err != nil {
			return acks, err
		}
		if answer.Status >= 300 && answer.Status != 404 {
			return acks, fmt.Errorf("%s: %d %s", request.URL, answer.Status, short(answer.Body))
		}
		if tag := answer.Header.Get("ETag"); tag != "" && answer.Status < 300 {
			a.version = strings.Trim(strings.TrimPrefix(tag, "W/"), `"`)
			acks = append(acks, a)
		}
	}
	return acks, nil
}

// An import and other writers write the same resources at the same time: each
// write that was acknowledged is the version it was told, and the import's lines
// are each a version too, behind or before it.
func TestImportBesideWritesOfTheSame(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := start(t, "--file-dir", folder)
	d := s.store(nil)
	const patients, copies, rivals = 3000, 6, 4
	s.must(os.Mkdir(filepath.Join(folder, "in"), 0o700))
	for c := range copies {
		text, _, _ := ndjson("p", patients)
		text = strings.ReplaceAll(text, "{broken\n", "")
		s.must(os.WriteFile(filepath.Join(folder, "in", fmt.Sprintf("Patient%d.ndjson", c)), []byte(text), 0o600))
	}
	_, good, _ := ndjson("p", patients)

	var stop atomic.Bool
	var all sync.WaitGroup
	acks := make([][]acknowledged, rivals)
	for w := range rivals {
		all.Go(func() {
			var err error
			if acks[w], err = d.rival(string(rune('a'+w)), patients, &stop); err != nil {
				t.Error(err)
			}
		})
	}
	j := s.awaitImport(d.id, s.startImport(importMembers(d.id, "file://"+folder+"/in/", "file://"+folder+"/out", "minimal")))
	stop.Store(true)
	all.Wait()
	if r := j.JobProgressReport; j.JobStatus != "COMPLETED" || r.TotalNumberOfResourcesImported != int64(good*copies) {
		t.Fatalf("%+v", j)
	}
	d.wantAll(acks, copies)
	if out := s.program(tarn(t), "check", "--running", d.id, "--endpoint", s.url(), "--data", s.Data); !strings.Contains(out, " 0 problems") {
		t.Errorf("%s", out)
	}
}

// wantAll looks for every acknowledged write, under its version, and for as many
// versions besides as the import has lines of a resource.
func (d *datastore) wantAll(acks [][]acknowledged, copies int) {
	d.t.Helper()
	written := map[int]map[string]string{} // id → version → family
	for _, of := range acks {
		for _, a := range of {
			if written[a.id] == nil {
				written[a.id] = map[string]string{}
			}
			if other, twice := written[a.id][a.version]; twice && other != a.family {
				d.t.Errorf("version %s of p%d is %q and %q", a.version, a.id, other, a.family)
			}
			written[a.id][a.version] = a.family
		}
	}
	if len(written) < 100 {
		d.t.Fatalf("only %d resources were written beside the import", len(written))
	}
	for id, versions := range written {
		entries, _ := d.get(fmt.Sprintf("/Patient/p%d/_history?_count=1000", id)).want(200).at("entry").([]any)
		imported := 0
		for i := range entries {
			v := fmt.Sprint(len(entries) - i)
			got, _ := dig(entries[i], "resource", "name", 0, "family").(string)
			want, known := versions[v]
			switch {
			case !known && got == "Noor":
				imported++
			case !known || got != want:
				d.t.Errorf("version %s of p%d is %q, and was acknowledged as %q (%v)", v, id, got, want, known)
			}
		}
		lines := copies
		if id%100 == 99 {
			lines = 0 // ndjson's broken ones
		}
		if imported != lines || len(entries) != len(versions)+imported {
			d.t.Errorf("p%d has %d versions, %d of them the import's; %d were acknowledged beside it", id, len(entries), imported, len(versions))
		}
	}
}
