package blackbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// minSecret is the least length of a text that is looked for, in bytes: shorter
// ones would be found by chance (2^30 random bytes hold a given 8 bytes with a
// probability of 2^-34).
const minSecret = 8

// identifying are texts of patients that must not stand in any file: names,
// identifiers, streets, telephone numbers, birth places.
func identifying(patients []map[string]any) []string {
	found := map[string]bool{}
	add := func(v any) {
		if text, ok := v.(string); ok && len(text) >= minSecret {
			found[text] = true
		}
	}
	for _, p := range patients {
		add(dig(p, "name", 0, "family"))
		add(dig(p, "name", 0, "given", 0))
		add(dig(p, "address", 0, "line", 0))
		add(dig(p, "telecom", 0, "value"))
		for i := range 6 {
			add(dig(p, "identifier", i, "value"))
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// fhirWords stand in every resource: finding one means that something is not
// sealed, whoever it is about.
var fhirWords = []string{"resourceType", "birthDate", "identifier", "http://hl7.org/fhir", "http://loinc.org", "urn:oid:"}

// needles finds many texts at once, whatever the case of their ASCII letters.
type needles map[uint16][]string // by their first two bytes, in each case

func newNeedles(texts []string) needles {
	n := needles{}
	for _, text := range texts {
		starts := map[uint16]bool{}
		for _, first := range []string{strings.ToLower(text[:1]), strings.ToUpper(text[:1])} {
			for _, second := range []string{strings.ToLower(text[1:2]), strings.ToUpper(text[1:2])} {
				starts[uint16(first[0])<<8|uint16(second[0])] = true
			}
		}
		for start := range starts {
			n[start] = append(n[start], text)
		}
	}
	return n
}

// in lists the texts that stand in raw, each once.
func (n needles) in(raw []byte) []string {
	var begins [1 << 16]bool
	for start := range n {
		begins[start] = true
	}
	found := map[string]bool{}
	for i := 0; i+1 < len(raw); i++ {
		start := uint16(raw[i])<<8 | uint16(raw[i+1])
		if !begins[start] {
			continue
		}
		for _, text := range n[start] {
			if i+len(text) <= len(raw) && bytes.EqualFold(raw[i:i+len(text)], []byte(text)) {
				found[text] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// leaks lists which files below a folder hold which texts.
func leaks(t testing.TB, folder string, texts []string) []string {
	t.Helper()
	var found []string
	wanted := newNeedles(texts)
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return ignoreGone(err)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return ignoreGone(err) // a running engine removes files
		}
		for _, text := range wanted.in(raw) {
			found = append(found, fmt.Sprintf("%s holds %q", filepath.Base(path), text))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func ignoreGone(err error) error {
	if os.IsNotExist(err) {
		return nil
	}
	return err
}

// Nothing of a patient stands in the files, while the server runs and after;
// what a deleted store left is nothing at all.
func TestSealed(t *testing.T) {
	t.Parallel()
	s := start(t)
	d := s.store(synthea)
	for i := range 50 { // in the log of the engine, as yet in no table
		d.fhir("PUT", fmt.Sprintf("/Patient/w%d", i), fmt.Sprintf(`{"resourceType":"Patient","id":"w%d","name":[{"family":"Wallbanger-%04d"}],`+
			`"identifier":[{"system":"urn:ssn","value":"SSN-9871-%04d"}]}`, i, i, i)).want(201)
	}
	texts := append(identifying(d.pages("Patient?_count=100")), fhirWords...)
	texts = append(texts, "Wallbanger-", "SSN-9871-")
	stores := filepath.Join(s.Data, "stores")
	for _, leak := range leaks(t, stores, texts) {
		t.Errorf("while the server runs, %s", leak)
	}
	s.must(s.Stop())
	for _, leak := range leaks(t, stores, texts) {
		t.Errorf("after the server stopped, %s", leak)
	}
	if bytes := s.size(filepath.Join(stores, d.id)); bytes < 10<<20 {
		t.Errorf("only %d bytes were looked through", bytes)
	}
	// The search itself finds what is there to be found.
	if found := leaks(t, s.Data, []string{strings.ToLower(s.Key.AccessKeyID)}); len(found) != 1 {
		t.Errorf("the access key stands in %v, want the credentials file", found)
	}
	s.restart()
	d.must(s.Control(t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{}))
	s.await(d.id, "DELETED")
	if _, err := os.Stat(filepath.Join(stores, d.id)); !os.IsNotExist(err) {
		t.Errorf("the deleted store's files are still there: %v", err)
	}
}

// size sums the bytes of the files below a folder.
func (s *server) size(folder string) (bytes int64) {
	s.t.Helper()
	s.must(filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			bytes += info.Size()
		}
		return ignoreGone(err)
	}))
	return bytes
}

// What opens the data is for the server's own account only.
func TestModes(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.store(nil)
	for _, name := range []string{"credentials", "keyring"} {
		info, err := os.Stat(filepath.Join(s.Data, name))
		s.must(err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o, want 0600", name, info.Mode().Perm())
		}
	}
	info, err := os.Stat(s.Data)
	s.must(err)
	if info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the data folder has mode %04o: others look in", info.Mode().Perm())
	}
	if !strings.Contains(s.Log(), "keyring") {
		t.Error("the log does not warn that the keyring lies beside the data")
	}
	elsewhere := filepath.Join(t.TempDir(), "ring")
	apart := start(t, "--key-file", elsewhere)
	apart.store(nil)
	if _, err := os.Stat(filepath.Join(apart.Data, "keyring")); !os.IsNotExist(err) {
		t.Errorf("with --key-file there is a keyring beside the data: %v", err)
	}
}

// tarn runs one of tarn's own commands on this server and parses its JSON.
func (s *server) tarn(args ...string) any {
	s.t.Helper()
	return parse(s.t, []byte(s.program(tarn(s.t), append(args, "--output", "json")...)))
}

// tarnOn is tarn with the flags that name this server.
func (s *server) tarnOn(args ...string) any {
	s.t.Helper()
	return s.tarn(append(args, "--endpoint", s.url(), "--data", s.Data)...)
}

// A store under a customer's key answers as long as the key is enabled.
func TestCustomerKey(t *testing.T) {
	t.Parallel()
	s := start(t, "--key-check", "1s")
	key := s.tarn("key", "create", "cardiology", "--alias", "alias/cardiology", "--data", s.Data)
	keyID, _ := dig(key, 0, "KeyId").(string)
	under := func(name string) map[string]any {
		return map[string]any{"SseConfiguration": map[string]any{"KmsEncryptionConfig": map[string]any{"CmkType": "CUSTOMER_MANAGED_KMS_KEY", "KmsKeyId": name}}}
	}
	s.awaitKey(under(keyID))
	s.store(under(dig(key, 0, "Arn").(string)))
	d := s.store(under("alias/cardiology"))
	other := s.store(nil)
	d.fhir("PUT", "/Patient/p", `{"resourceType":"Patient","id":"p"}`).want(201)
	first := d.get("/Patient?_count=1").want(200)

	s.tarn("key", "disable", keyID, "--data", s.Data)
	d.becomes("/Patient/p", 403)
	if got := d.get("/Patient").text("issue", 0, "code"); got != "forbidden" {
		t.Errorf("the refusal's code is %q", got)
	}
	other.get("/Patient").want(200)
	_, err := s.Create(t.Context(), under(keyID))
	s.refused(err, 403, "AccessDeniedException", "")
	s.must(s.Kill())
	s.restart() // a restart does not get round the key
	d.server = s
	d.becomes("/Patient/p", 403)

	s.tarn("key", "enable", "alias/cardiology", "--data", s.Data)
	d.becomes("/Patient/p", 200)
	if again := d.get("/Patient?_count=1").want(200); again.text("entry", 0, "resource", "id") != first.text("entry", 0, "resource", "id") {
		t.Errorf("after the key came back: %s", short(again.Body))
	}
	_, err = s.Create(t.Context(), under("alias/nobody"))
	s.refused(err, 400, "ValidationException", "kmsKeyId")
	if list := s.tarn("key", "list", "--data", s.Data); !strings.Contains(fmt.Sprint(list), keyID) {
		t.Errorf("the keys are %v", list)
	}
	// The key destroyed: the data is gone for ever, the store can be deleted.
	s.program(tarn(s.t), "key", "delete", keyID, "--yes", "--data", s.Data)
	d.becomes("/Patient/p", 403)
	s.must(s.Control(t.Context(), "DeleteFHIRDatastore", map[string]any{"DatastoreId": d.id}, &struct{}{}))
	s.await(d.id, "DELETED")
}

// awaitKey creates a store under a key that was made a moment ago, of which the
// running server need not know yet.
func (s *server) awaitKey(members map[string]any) {
	s.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		made, failed := s.Create(s.t.Context(), members)
		if err = failed; err == nil {
			s.await(made.DatastoreID, "ACTIVE")
			return
		}
	}
	s.t.Fatalf("a new key is still not known: %v", err)
}

// patience is within what the server must heed what it was told: a changed key,
// a signal.
const patience = time.Minute

// becomes polls until a read is answered with this status.
func (d *datastore) becomes(path string, status int) {
	d.t.Helper()
	var last *reply
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if last = d.get(path); last.Status == status {
			return
		}
	}
	d.t.Fatalf("%s is still answered with %d, want %d: %s", path, last.Status, status, short(last.Body))
}

// jsonOf writes JSON.
func jsonOf(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
