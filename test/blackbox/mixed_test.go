package blackbox

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// Numbers of the mixed crash test.
const (
	// mixedStore is how many rounds one data store lives: each round looks through
	// all of it.
	mixedStore = 20
	// mixedWrites is the most acknowledged writes before a kill.
	mixedWrites = 300
	// mixedImport is how many resources an import brings.
	mixedImport = 150
)

// disturbance is something that a server is asked to do beside the load. It
// returns what must be true when the server has been killed and is back.
type disturbance func(d *datastore, round int, r *rand.Rand) (after func())

// disturbances are what goes on beside writers in TestKillMixed.
var disturbances = map[string]disturbance{
	"rotation": disturbRotation, "compaction": disturbCompaction, "import": disturbImport,
	"erasure": disturbErasure, "search parameter": disturbParameter, "kms rotation": disturbKMS,
}

// disturbanceNames are in the order in which rounds draw from them.
var disturbanceNames = []string{"rotation", "compaction", "import", "erasure", "search parameter", "kms rotation"}

// kill -9 under creates, updates, deletes and transactions, while imports,
// erasures, new search parameters, exchanges of keys and compactions go on: each
// acknowledged write is there, no half of one is, what was begun comes to its end,
// and `tarn check` finds nothing.
func TestKillMixed(t *testing.T) {
	t.Parallel()
	buckets := t.TempDir()
	for _, name := range []string{"in", "out"} {
		if err := os.Mkdir(filepath.Join(buckets, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, "--s3-dir", buckets)
	d, model := s.store(nil), newModel()
	for round := range rounds(t) {
		if round > 0 && round%mixedStore == 0 {
			s.must(s.Control(t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{}))
			d, model = s.store(nil), newModel()
		}
		r := moments(t, round)
		begun := r.Perm(len(disturbanceNames))[:2]
		afters := make([]func(), len(begun))
		var beside sync.WaitGroup
		for i, at := range begun {
			delay, random := between(r, 0, 80*time.Millisecond), rand.New(rand.NewPCG(r.Uint64(), 0))
			beside.Go(func() {
				time.Sleep(delay) // the seeded moment
				afters[i] = disturbances[disturbanceNames[at]](d, round, random)
			})
		}
		acks := fewestWrite + r.Int64N(mixedWrites)
		d.writeUntilKilled(model, round, acks)
		beside.Wait()
		s.revive(r, round)
		model.check(d, r)
		for _, after := range afters {
			after()
		}
		if out := s.program(tarn(t), "check", "--running", d.id, "--endpoint", s.url(), "--data", s.Data); !strings.Contains(out, " 0 problems") {
			t.Errorf("tarn check: %s", out)
		}
		if t.Failed() {
			t.Fatalf("round %d, killed after %d acknowledged writes beside %s and %s", round, acks, disturbanceNames[begun[0]], disturbanceNames[begun[1]])
		}
	}
}

func disturbRotation(d *datastore, _ int, _ *rand.Rand) func() {
	d.rotate(d.t.Context())
	return func() { d.awaitJobs("datastore.rekey") }
}

func disturbCompaction(d *datastore, _ int, _ *rand.Rand) func() {
	_ = d.Control(d.t.Context(), "CompactDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{}) // the kill may come first
	return func() {}
}

func disturbKMS(d *datastore, _ int, _ *rand.Rand) func() {
	d.program(tarn(d.t), "key", "rotate", "--own", "--data", d.Data)
	return func() {}
}

// disturbImport starts an import: all of it is there in the end, or, when its
// start was not acknowledged, all or nothing.
func disturbImport(d *datastore, round int, _ *rand.Rand) func() {
	name := fmt.Sprintf("import-%s-%d", d.id[:8], round)
	var lines strings.Builder
	for i := range mixedImport {
		fmt.Fprintf(&lines, `{"resourceType":"Organization","id":"%s-%d","name":"%s"}`+"\n", name, i, name)
	}
	bucket := filepath.Join(d.flag("--s3-dir"), "in", name)
	d.must(os.MkdirAll(bucket, 0o700))
	d.must(os.WriteFile(filepath.Join(bucket, "o.ndjson"), []byte(lines.String()), 0o600))
	var made struct{ JobId string }
	err := d.Control(d.t.Context(), "StartFHIRImportJob", map[string]any{
		"DatastoreId": d.id, "ClientToken": name, "DataAccessRoleArn": "arn:aws:iam::111122223333:role/any",
		"InputDataConfig":     map[string]any{"S3Uri": "s3://in/" + name},
		"JobOutputDataConfig": map[string]any{"S3Configuration": map[string]any{"S3Uri": "s3://out/" + name, "KmsKeyId": "alias/any"}},
	}, &made)
	return func() {
		d.awaitJobs("fhir.import")
		n := d.total("Organization?name=" + name)
		if n != mixedImport && (err == nil || n != 0) {
			d.t.Errorf("%d resources of an import of %d are there (its start: %v)", n, mixedImport, err)
		}
	}
}

// flag is the value of a flag that the server was started with.
func (s *server) flag(name string) string {
	s.t.Helper()
	for i, flag := range s.Flags {
		if flag == name {
			return s.Flags[i+1]
		}
	}
	s.t.Fatalf("the server was started without %s", name)
	return ""
}

// disturbErasure makes a resource with two versions and erases it: acknowledged,
// it goes with both.
func disturbErasure(d *datastore, round int, _ *rand.Rand) func() {
	path := fmt.Sprintf("/Location/erased-%d", round)
	send := func(method, path, body string) *process.Response {
		answer, err := d.Do(d.t.Context(), process.Request{Method: method, URL: d.base() + path, Body: []byte(body), Header: map[string]string{"Content-Type": "application/fhir+json"}})
		if err != nil {
			return nil // the kill
		}
		return answer
	}
	written := 0
	for written < 2 && send("PUT", path, fmt.Sprintf(`{"resourceType":"Location","id":"erased-%d","name":"n%d"}`, round, written)) != nil {
		written++
	}
	asked := send("POST", path+"/$erase", "")
	return func() {
		if asked == nil {
			if got := d.get(path); written == 2 && got.Status == http.StatusOK && got.text("name") != "n1" {
				d.t.Errorf("%s is %s", path, short(got.Body))
			}
			return
		}
		if asked.Status != http.StatusAccepted {
			d.t.Errorf("$erase: status %d: %s", asked.Status, short(asked.Body))
			return
		}
		d.settle(d.poll(&reply{Response: asked, t: d.t}), func(r *reply) bool { return r.want(200).text("status") == "COMPLETED" })
		d.get(path).want(404)
		d.get(path + "/_history/1").want(404)
		if n := d.total(fmt.Sprintf("Location?_id=erased-%d", round)); n != 0 {
			d.t.Errorf("%d resources are left of %s", n, path)
		}
	}
}

// disturbParameter writes a search parameter: acknowledged, it finds what was
// there before in the end.
func disturbParameter(d *datastore, round int, _ *rand.Rand) func() {
	code := fmt.Sprintf("family-%d", round)
	body := fmt.Sprintf(`{"resourceType":"SearchParameter","id":"%[1]s","url":"http://example.org/%[1]s","name":"Family","code":"%[1]s","status":"active","description":"x","base":["Patient"],"type":"string","expression":"Patient.name.family"}`, code)
	answer, err := d.Do(d.t.Context(), process.Request{Method: "PUT", URL: d.base() + "/SearchParameter/" + code, Body: []byte(body), Header: map[string]string{"Content-Type": "application/fhir+json"}})
	return func() {
		if err != nil {
			return
		}
		if answer.Status != http.StatusCreated {
			d.t.Errorf("a search parameter: status %d: %s", answer.Status, short(answer.Body))
			return
		}
		query := "/Patient?" + code + "=M&_summary=count" // every marker begins with it
		found := d.settle(query, func(r *reply) bool { return r.Status == http.StatusOK })
		if got, want := int(found.number("total")), d.total("Patient"); got != want {
			d.t.Errorf("the new parameter finds %d patients, there are %d", got, want)
		}
	}
}
