package localkms

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

const (
	account = "111122223333"
	region  = "us-east-1"
)

var storeContext = map[string]string{seal.ContextDatastore: "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/0123"}

// clock is a clock that tests turn.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) turn(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

func openAt(t testing.TB, path string, c *clock) *KMS {
	t.Helper()
	k, err := Open(path, account, region, rand.Reader, c.Now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func openNew(t testing.TB) (*KMS, *clock, string) {
	t.Helper()
	c, path := newClock(), filepath.Join(t.TempDir(), "data", "keyring")
	return openAt(t, path, c), c, path
}

func created(t testing.TB, k *KMS) Key {
	t.Helper()
	key, err := k.CreateKey("for tests")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func generated(t testing.TB, k *KMS, name string) (seal.DataKey, seal.Wrapped) {
	t.Helper()
	key, wrapped, err := k.GenerateDataKey(t.Context(), name, storeContext)
	if err != nil {
		t.Fatal(err)
	}
	return key, wrapped
}

func TestKeyIsFoundByEveryName(t *testing.T) {
	k, _, _ := openNew(t)
	key := created(t, k)
	if _, err := k.CreateAlias("alias/team/records-1_x", key.ID); err != nil {
		t.Fatal(err)
	}
	names := []string{
		key.ID, "key/" + key.ID, key.ARN, "alias/team/records-1_x",
		"arn:aws:kms:us-east-1:111122223333:alias/team/records-1_x",
	}
	if want := "arn:aws:kms:us-east-1:111122223333:key/" + key.ID; key.ARN != want || !isUUID(key.ID) {
		t.Errorf("the key is %+v", key)
	}
	for _, name := range names {
		info, err := k.Resolve(t.Context(), name)
		want := seal.KeyInfo{ARN: key.ARN, Enabled: true, Symmetric: true, Manager: "CUSTOMER", State: Enabled}
		if err != nil || info != want {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
		made, wrapped := generated(t, k, name)
		if wrapped.KeyARN != key.ARN {
			t.Errorf("%s wrapped with %s", name, wrapped.KeyARN)
		}
		opened, err := k.Unwrap(t.Context(), wrapped, storeContext)
		if err != nil || !opened.Equal(made) {
			t.Errorf("%s: the data key does not come back: %v", name, err)
		}
	}
	for _, name := range []string{
		"", "alias/none", "key/", newUUID([16]byte{}), strings.ToUpper(key.ID),
		"arn:aws:kms:eu-west-1:111122223333:key/" + key.ID, "arn:aws:kms:us-east-1:999922223333:key/" + key.ID,
		"team/records-1_x", "arn:aws:kms:us-east-1:111122223333:alias/none",
	} {
		if _, err := k.Resolve(t.Context(), name); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q resolved: %v", name, err)
		}
		if _, _, err := k.GenerateDataKey(t.Context(), name, nil); !fault.Is(err, fault.NotFound) {
			t.Errorf("%q makes keys: %v", name, err)
		}
	}
}

func TestWrappedKeyIsBound(t *testing.T) {
	k, _, path := openNew(t)
	key, other := created(t, k), created(t, k)
	made, wrapped := generated(t, k, key.ID)
	swapped := seal.Wrapped{KeyARN: other.ARN, Ciphertext: wrapped.Ciphertext}
	renamed := swapped
	renamed.Ciphertext = append(append([]byte{wrapFormat}, mustRaw(t, other)...), wrapped.Ciphertext[1+idSize:]...)
	for _, c := range []struct {
		name    string
		w       seal.Wrapped
		context map[string]string
		kind    fault.Kind
	}{
		{"another store", wrapped, map[string]string{seal.ContextDatastore: "arn:other"}, fault.Forbidden},
		{"no context", wrapped, nil, fault.Forbidden},
		{"more context", wrapped, map[string]string{seal.ContextDatastore: storeContext[seal.ContextDatastore], "a": "b"}, fault.Forbidden},
		{"another key's ARN", swapped, storeContext, fault.Forbidden},
		{"another key's id", renamed, storeContext, fault.Forbidden},
		{"unknown key", seal.Wrapped{KeyARN: "arn:x", Ciphertext: wrapped.Ciphertext}, storeContext, fault.NotFound},
		{"other format", seal.Wrapped{KeyARN: key.ARN, Ciphertext: append([]byte{9}, wrapped.Ciphertext[1:]...)}, storeContext, fault.Invalid},
		{"empty", seal.Wrapped{KeyARN: key.ARN}, storeContext, fault.Invalid},
	} {
		if opened, err := k.Unwrap(t.Context(), c.w, c.context); !fault.Is(err, c.kind) || opened.Usable() {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	for at := range wrapped.Ciphertext {
		bad := seal.Wrapped{KeyARN: key.ARN, Ciphertext: bytes.Clone(wrapped.Ciphertext)}
		bad.Ciphertext[at] ^= 1
		if _, err := k.Unwrap(t.Context(), bad, storeContext); err == nil {
			t.Fatalf("byte %d may change", at)
		}
	}
	// Under another --region and --account, old keys keep their names.
	moved, err := Open(path, "999988887777", "eu-west-1", rand.Reader, newClock().Now)
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := moved.Unwrap(t.Context(), wrapped, storeContext); err != nil || !opened.Equal(made) {
		t.Errorf("after a move: %v", err)
	}
}

func mustRaw(t *testing.T, shown Key) []byte {
	t.Helper()
	raw, err := (&key{ID: shown.ID}).rawID()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestStates(t *testing.T) {
	k, c, path := openNew(t)
	key := created(t, k)
	_, wrapped := generated(t, k, key.ID)
	refusedAs := func(state string, kind fault.Kind) {
		t.Helper()
		for _, ring := range []*KMS{k, openAt(t, path, c)} {
			if _, err := ring.Unwrap(t.Context(), wrapped, storeContext); !fault.Is(err, kind) {
				t.Errorf("%s: Unwrap: %v", state, err)
			}
			if _, _, err := ring.GenerateDataKey(t.Context(), key.ARN, storeContext); !fault.Is(err, kind) {
				t.Errorf("%s: GenerateDataKey: %v", state, err)
			}
			info, err := ring.Resolve(t.Context(), key.ARN)
			if kind == fault.Forbidden && (err != nil || info.Enabled || info.State != state) {
				t.Errorf("%s: resolved to %+v, %v", state, info, err)
			}
		}
	}
	do := func(_ Key, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	works := func() {
		t.Helper()
		if _, err := k.Unwrap(t.Context(), wrapped, storeContext); err != nil {
			t.Errorf("enabled: %v", err)
		}
	}
	do(k.Disable(key.ID))
	refusedAs(Disabled, fault.Forbidden)
	do(k.Enable(key.ID))
	works()
	do(k.ScheduleDeletion(key.ID, 7))
	refusedAs(PendingDeletion, fault.Forbidden)
	for name, f := range map[string]func() (Key, error){
		"enable":  func() (Key, error) { return k.Enable(key.ID) },
		"disable": func() (Key, error) { return k.Disable(key.ID) },
		"again":   func() (Key, error) { return k.ScheduleDeletion(key.ID, 8) },
	} {
		if _, err := f(); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s while deletion is pending: %v", name, err)
		}
	}
	do(k.CancelDeletion(key.ID))
	refusedAs(Disabled, fault.Forbidden)
	if _, err := k.CancelDeletion(key.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("cancelled twice: %v", err)
	}
	do(k.Enable(key.ID))
	works()
	do(k.ScheduleDeletion(key.ID, 7))
	c.turn(7*24*time.Hour - time.Second)
	refusedAs(PendingDeletion, fault.Forbidden)
	c.turn(time.Second)
	refusedAs("gone", fault.NotFound)
	if all, err := k.List(); err != nil || len(all) != 0 {
		t.Errorf("listed after deletion: %v, %v", all, err)
	}
	created(t, k) // the next change destroys the material
	if raw, err := os.ReadFile(path); err != nil || bytes.Contains(raw, []byte(key.ID)) {
		t.Errorf("the key is still in the file (%v)", err)
	}
	for _, days := range []int{-1, 0, 6, 31} {
		if _, err := k.ScheduleDeletion(key.ID, days); !fault.Is(err, fault.Invalid) {
			t.Errorf("%d days: %v", days, err)
		}
	}
}

func TestDelete(t *testing.T) {
	k, _, path := openNew(t)
	key := created(t, k)
	if _, err := k.CreateAlias("alias/x", key.ID); err != nil {
		t.Fatal(err)
	}
	_, wrapped := generated(t, k, "alias/x")
	if err := k.Delete("alias/x"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Unwrap(t.Context(), wrapped, storeContext); !fault.Is(err, fault.NotFound) {
		t.Errorf("after deletion: %v", err)
	}
	if all, err := k.Aliases(); err != nil || len(all) != 0 {
		t.Errorf("aliases after deletion: %v, %v", all, err)
	}
	if raw, err := os.ReadFile(path); err != nil || bytes.Contains(raw, []byte(key.ID)) {
		t.Errorf("the key is still in the file (%v)", err)
	}
	if err := k.Delete(key.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestOwnedKey(t *testing.T) {
	k, c, path := openNew(t)
	owned := k.OwnedKey()
	if again := openAt(t, path, c).OwnedKey(); again != owned || owned == "" {
		t.Errorf("the server's own key was %q and is %q", owned, again)
	}
	info, err := k.Resolve(t.Context(), owned)
	if err != nil || info.Manager != "AWS" || !info.Enabled || !info.Symmetric {
		t.Errorf("it resolves to %+v, %v", info, err)
	}
	if all, err := k.List(); err != nil || len(all) != 0 {
		t.Errorf("it is listed: %v, %v", all, err)
	}
	made, wrapped := generated(t, k, owned)
	if opened, err := k.Unwrap(t.Context(), wrapped, storeContext); err != nil || !opened.Equal(made) {
		t.Errorf("it does not unwrap: %v", err)
	}
	_, disable := k.Disable(owned)
	_, schedule := k.ScheduleDeletion(owned, 7)
	_, name := k.CreateAlias("alias/mine", owned)
	for what, err := range map[string]error{"Disable": disable, "ScheduleDeletion": schedule, "CreateAlias": name, "Delete": k.Delete(owned)} {
		if !fault.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAliases(t *testing.T) {
	k, _, _ := openNew(t)
	one, two := created(t, k), created(t, k)
	for _, name := range []string{
		"", "alias/", "records", "alias/aws/x", "alias/a b", "alias/ä", "alias/a:b", "alias/" + strings.Repeat("a", maxAlias-5),
	} {
		if _, err := k.CreateAlias(name, one.ID); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"alias/b", "alias/a"} {
		if _, err := k.CreateAlias(name, one.ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.CreateAlias("alias/a", two.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("taken: %v", err)
	}
	if _, err := k.CreateAlias("alias/c", "none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("of no key: %v", err)
	}
	all, err := k.List()
	if err != nil || len(all) != 2 || !slices.Equal(all[0].Aliases, []string{"alias/a", "alias/b"}) || all[1].Aliases != nil {
		t.Errorf("listed %+v, %v", all, err)
	}
	if err := k.DeleteAlias("alias/b"); err != nil {
		t.Fatal(err)
	}
	if err := k.DeleteAlias("alias/b"); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	want := []Alias{{"alias/a", "arn:aws:kms:us-east-1:111122223333:alias/a", one.ID}}
	if got, err := k.Aliases(); err != nil || !slices.Equal(got, want) {
		t.Errorf("aliases %+v, %v", got, err)
	}
	if _, err := k.CreateKey(strings.Repeat("x", maxDescription+1)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a long description: %v", err)
	}
}

func TestKeyFileIsPrivate(t *testing.T) {
	k, c, path := openNew(t)
	created(t, k)
	stat, err := os.Stat(path)
	if err != nil || stat.Mode().Perm() != 0o600 {
		t.Fatalf("the key file is %v, %v", stat.Mode(), err)
	}
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the new file was left: %v", err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o777} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, account, region, rand.Reader, c.Now); !fault.Is(err, fault.Forbidden) {
			t.Errorf("%04o: %v", mode, err)
		}
	}
	c.turn(LookEvery)
	if _, err := k.List(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("opened up while in use: %v", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	c.turn(LookEvery)
	if _, err := k.List(); err != nil {
		t.Errorf("closed again: %v", err)
	}
}

// What another process changes, a running server sees within LookEvery; before it
// says no, at once.
func TestChangesOfAnotherProcessAreSeen(t *testing.T) {
	server, c, path := openNew(t)
	cli := openAt(t, path, c)
	key := created(t, cli)
	_, wrapped := generated(t, server, key.ID)
	if _, err := cli.Disable(key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Unwrap(t.Context(), wrapped, storeContext); err != nil {
		t.Errorf("looked too soon: %v", err)
	}
	c.turn(LookEvery)
	if _, err := server.Unwrap(t.Context(), wrapped, storeContext); !fault.Is(err, fault.Forbidden) {
		t.Errorf("disabled elsewhere: %v", err)
	}
	if _, err := server.Enable(key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Unwrap(t.Context(), wrapped, storeContext); err != nil {
		t.Errorf("enabled here: %v", err)
	}
	c.turn(LookEvery)
	if _, err := cli.Unwrap(t.Context(), wrapped, storeContext); err != nil {
		t.Errorf("enabled elsewhere: %v", err)
	}
	c.turn(-time.Hour) // a clock set back must not stop the looking
	if err := cli.Delete(key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Unwrap(t.Context(), wrapped, storeContext); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted elsewhere: %v", err)
	}
}

func TestKeyFileThatIsGoneIsAnUnreachableKMS(t *testing.T) {
	k, c, path := openNew(t)
	key := created(t, k)
	_, wrapped := generated(t, k, key.ID)
	away := path + ".away"
	for name, breakIt := range map[string]func() error{
		"gone":    func() error { return os.Remove(path) },
		"damaged": func() error { return os.WriteFile(path, []byte("{"), 0o600) },
	} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(away, raw, 0o600), breakIt()); err != nil {
			t.Fatal(err)
		}
		c.turn(LookEvery)
		for range 2 {
			if _, err := k.Unwrap(t.Context(), wrapped, storeContext); !fault.Is(err, fault.Unavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := os.Rename(away, path); err != nil {
			t.Fatal(err)
		}
		c.turn(LookEvery)
		if _, err := k.Unwrap(t.Context(), wrapped, storeContext); err != nil {
			t.Errorf("%s, back again: %v", name, err)
		}
	}
}

func TestDamagedKeyFileIsRefused(t *testing.T) {
	k, c, path := openNew(t)
	key := created(t, k)
	if _, err := k.CreateAlias("alias/a", key.ID); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(from, to string) string {
		t.Helper()
		if !bytes.Contains(good, []byte(from)) {
			t.Fatalf("the key file has no %q", from)
		}
		return strings.Replace(string(good), from, to, 1)
	}
	for name, c2 := range map[string]struct {
		content string
		kind    fault.Kind
	}{
		"empty":            {"", fault.Internal},
		"cut":              {string(good[:len(good)/2]), fault.Internal},
		"newer":            {edit(`"format": 1`, `"format": 3`), fault.NotSupported},
		"other root":       {edit(`"root": "`, `"root": "AA`), fault.Internal},
		"no root":          {edit(`"root"`, `"roof"`), fault.Internal},
		"unknown member":   {edit(`"keys"`, `"locks": [], "keys"`), fault.Internal},
		"unknown state":    {edit(`"Enabled"`, `"Ready"`), fault.Internal},
		"another id":       {edit(key.ID, newUUID([16]byte{1})), fault.Internal},
		"alias to nowhere": {strings.ReplaceAll(string(good), `"key": "`+key.ID, `"key": "`+newUUID([16]byte{1})), fault.Internal},
		"no owned key":     {edit(`"owned": true`, `"owned": false`), fault.Internal},
		"null key":         {edit(`"keys": [`, `"keys": [null, `), fault.Internal},
	} {
		if err := os.WriteFile(path, []byte(c2.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, account, region, rand.Reader, c.Now); !fault.Is(err, c2.kind) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != c2.content {
			t.Fatalf("%s: the file was changed (%v)", name, err)
		}
	}
}

func TestKeyFileHoldsNoKeyInTheClear(t *testing.T) {
	k, _, path := openNew(t)
	key := created(t, k)
	made, wrapped := generated(t, k, key.ID)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	made.Reveal(func(plain []byte) {
		if bytes.Contains(raw, plain) || bytes.Contains(wrapped.Ciphertext, plain) {
			t.Error("the data key is in the clear")
		}
	})
}

func TestWithoutRandomness(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keyring")
	if _, err := Open(path, account, region, iotest.ErrReader(errors.New("none")), newClock().Now); !fault.Is(err, fault.Internal) {
		t.Errorf("without randomness: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a key file was made: %v", err)
	}
}

func TestEndedContext(t *testing.T) {
	k, _, _ := openNew(t)
	_, wrapped := generated(t, k, k.OwnedKey())
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancelLate := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancelLate()
	for kind, ctx := range map[fault.Kind]context.Context{fault.Canceled: canceled, fault.Timeout: late} {
		_, resolve := k.Resolve(ctx, k.OwnedKey())
		_, unwrap := k.Unwrap(ctx, wrapped, storeContext)
		_, _, generate := k.GenerateDataKey(ctx, k.OwnedKey(), storeContext)
		for _, err := range []error{resolve, unwrap, generate} {
			if !fault.Is(err, kind) {
				t.Errorf("%v: %v", kind, err)
			}
		}
	}
}

// childPath names the key file to a copy of this test binary that is to make
// childKeys keys and end.
const (
	childPath = "TARN_TEST_KEY_FILE"
	childKeys = 10
)

func TestManyProcesses(t *testing.T) {
	if path := os.Getenv(childPath); path != "" {
		k := openAt(t, path, newClock())
		for i := range childKeys {
			if _, err := k.CreateKey(fmt.Sprint(os.Getpid(), i)); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	const children = 4
	path := filepath.Join(t.TempDir(), "keyring")
	var group sync.WaitGroup
	for range children {
		group.Go(func() {
			child := exec.Command(os.Args[0], "-test.run=^TestManyProcesses$")
			child.Env = append(os.Environ(), childPath+"="+path)
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	group.Wait()
	all, err := openAt(t, path, newClock()).List()
	if err != nil || len(all) != children*childKeys {
		t.Errorf("%d keys of %d are there, %v", len(all), children*childKeys, err)
	}
}

func TestManyGoroutines(t *testing.T) {
	k, c, _ := openNew(t)
	key := created(t, k)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				made, wrapped, err := k.GenerateDataKey(t.Context(), key.ID, storeContext)
				if err != nil {
					t.Error(err)
					return
				}
				if opened, err := k.Unwrap(t.Context(), wrapped, storeContext); err != nil || !opened.Equal(made) {
					t.Error(err)
				}
				if _, err := k.CreateKey(""); err != nil {
					t.Error(err)
				}
				c.turn(LookEvery)
			}
		})
	}
	group.Wait()
	if all, err := k.List(); err != nil || len(all) != 41 {
		t.Errorf("%d keys, %v", len(all), err)
	}
}

// The frozen sample: a key file and a data key that it wraps, of the first
// version, made of the bytes of a known generator. They open for ever.
func TestGolden(t *testing.T) {
	t.Run("format 1", func(t *testing.T) { golden(t, "format-1", 0, goldenDerived) })
	t.Run("format 2, of a key that was rotated", func(t *testing.T) { golden(t, "format-2", 2, goldenRotated) })
}

func golden(t *testing.T, name string, rotations int, derived string) {
	frozen := filepath.Join("testdata", name+".keyring")
	frozenKey := filepath.Join("testdata", name+".wrapped")
	context := map[string]string{seal.ContextDatastore: "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/golden"}
	if os.Getenv("TARN_UPDATE") == "1" {
		makeGolden(t, frozen, frozenKey, rotations, context)
	}
	raw, err := os.ReadFile(frozen)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keyring")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	k := openAt(t, path, newClock())
	wrapped, err := os.ReadFile(frozenKey)
	if err != nil {
		t.Fatal(err)
	}
	var w seal.Wrapped
	if err := w.UnmarshalBinary(wrapped); err != nil {
		t.Fatal(err)
	}
	opened, err := k.Unwrap(t.Context(), w, context)
	if err != nil {
		t.Fatal(err)
	}
	got := opened.Derive("golden")
	if fmt.Sprintf("%x", got) != derived {
		t.Errorf("the frozen data key derives %x, want %s", got, derived)
	}
	info, err := k.Resolve(t.Context(), "alias/golden")
	if err != nil || info.ARN != w.KeyARN {
		t.Errorf("its alias resolves to %+v, %v", info, err)
	}
}

// goldenRotated is the same of the frozen data key of format 2.
const goldenRotated = "49f3ef3c82fe98df282dfb6db2bcdb5ff989c4dc5af78c31756b5d1892bab2b4"

// goldenDerived is what the frozen data key derives for the label "golden".
const goldenDerived = "938345aca0210b47d7af43bcabe2e2466f69eaadee555ee0adf0bda8734ded48"

func makeGolden(t *testing.T, frozen, frozenKey string, rotations int, context map[string]string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keyring")
	k, err := Open(path, account, region, mathrand.NewChaCha8([32]byte{7}), newClock().Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.CreateAlias("alias/golden", created(t, k).ID); err != nil {
		t.Fatal(err)
	}
	for range rotations {
		if _, err := k.Rotate("alias/golden"); err != nil {
			t.Fatal(err)
		}
	}
	_, wrapped, err := k.GenerateDataKey(t.Context(), "alias/golden", context)
	if err != nil {
		t.Fatal(err)
	}
	asBinary, err := wrapped.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(frozen, raw, 0o644), os.WriteFile(frozenKey, asBinary, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func FuzzKeyFile(f *testing.F) {
	frozen, err := os.ReadFile(filepath.Join("testdata", "format-1.keyring"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frozen)
	f.Add([]byte(`{"format":1,"root":"","keys":null}`))
	f.Add([]byte(`{"format":1,"keys":[null]}`))
	f.Add([]byte(`{"format":2}`))
	if frozen, err = os.ReadFile(filepath.Join("testdata", "format-2.keyring")); err != nil {
		f.Fatal(err)
	}
	f.Add(frozen)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parse(raw)
		if err != nil {
			return
		}
		for _, k := range r.Keys {
			if len(k.boxes) != k.version() || len(k.ID) != 36 {
				t.Errorf("key %q is not open", k.ID)
			}
			if _, err := k.rawID(); err != nil {
				t.Errorf("key %q: %v", k.ID, err)
			}
		}
	})
}

// TestNewAliasIsSeenAtOnce: a name that another process gave is found although it
// is not yet time to look at the file.
func TestNewAliasIsSeenAtOnce(t *testing.T) {
	server, c, path := openNew(t)
	cli := openAt(t, path, c)
	if _, err := server.Resolve(t.Context(), "alias/new"); !fault.Is(err, fault.NotFound) {
		t.Fatalf("before it is there: %v", err)
	}
	key := created(t, cli)
	if _, err := cli.CreateAlias("alias/new", key.ID); err != nil {
		t.Fatal(err)
	}
	if info, err := server.Resolve(t.Context(), "alias/new"); err != nil || info.ARN != key.ARN {
		t.Errorf("%v, %v, want %s", info.ARN, err, key.ARN)
	}
}

// After Rotate new data keys are wrapped by new material, old ones open still, in
// another process too, and are wrapped anew by Rewrap.
func TestRotate(t *testing.T) {
	k, c, path := openNew(t)
	key := created(t, k)
	context := map[string]string{"a": "b"}
	first, wrapped, err := k.GenerateDataKey(t.Context(), key.ID, context)
	if err != nil {
		t.Fatal(err)
	}
	if same, err := k.Rewrap(t.Context(), wrapped, context); err != nil || !same.Equal(wrapped) {
		t.Errorf("Rewrap before Rotate: %v, %v", same, err)
	}
	for version := 2; version < 5; version++ {
		rotated, err := k.Rotate(key.ID)
		if err != nil || rotated.Version != version {
			t.Fatalf("%+v, %v", rotated, err)
		}
	}
	other := openAt(t, path, c)
	if opened, err := other.Unwrap(t.Context(), wrapped, context); err != nil || !opened.Equal(first) {
		t.Fatalf("a data key of before: %v", err)
	}
	fresh, err := other.Rewrap(t.Context(), wrapped, context)
	if err != nil || fresh.Equal(wrapped) || fresh.KeyARN != key.ARN {
		t.Fatalf("%+v, %v", fresh, err)
	}
	if opened, err := k.Unwrap(t.Context(), fresh, context); err != nil || !opened.Equal(first) {
		t.Errorf("the data key, wrapped anew: %v", err)
	}
	if _, err := k.Rewrap(t.Context(), wrapped, map[string]string{"a": "c"}); !fault.Is(err, fault.Forbidden) {
		t.Errorf("Rewrap with another context: %v", err)
	}
	future := seal.Wrapped{KeyARN: fresh.KeyARN, Ciphertext: slices.Clone(fresh.Ciphertext)}
	future.Ciphertext[1+idSize+versionSize-1]++
	short := seal.Wrapped{KeyARN: fresh.KeyARN, Ciphertext: fresh.Ciphertext[:1+idSize+2]}
	for w, kind := range map[*seal.Wrapped]fault.Kind{&future: fault.Forbidden, &short: fault.Invalid} {
		if _, err := k.Unwrap(t.Context(), *w, context); !fault.Is(err, kind) {
			t.Errorf("%x: %v", w.Ciphertext, err)
		}
	}
	if owned, err := k.Rotate(k.OwnedKey()); err != nil || !owned.Owned || owned.Version != 2 {
		t.Errorf("the server's own key: %+v, %v", owned, err)
	}
	if _, err := k.Disable(key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Rotate(key.ID); !fault.Is(err, fault.Conflict) {
		t.Errorf("Rotate of a disabled key: %v", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(bytes.Replace(raw, []byte(`"format": 2`), []byte(`"format": 1`), 1)); !fault.Is(err, fault.Internal) {
		t.Errorf("a file of format 1 with rotated keys: %v", err)
	}
}
