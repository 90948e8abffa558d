package iam

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

const (
	rootARN  = "arn:aws:iam::111122223333:root"
	annARN   = "arn:aws:iam::111122223333:user/clinic/ann"
	bobARN   = "arn:aws:iam::111122223333:user/bob"
	rootKey  = "AKIAROOT0000000001"
	annKey   = "AKIAANN00000000001"
	bobKey   = "AKIABOB00000000001"
	roleBase = "arn:aws:iam::111122223333:role/"
)

// bench is a directory with a file and a clock of its own.
type bench struct {
	*Directory
	t       *testing.T
	path    string
	now     time.Time
	reports []Reload
}

func newBench(t *testing.T) *bench {
	t.Helper()
	text, err := os.ReadFile("testdata/account.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, path: filepath.Join(t.TempDir(), "iam.yaml"), now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	b.write(string(text))
	b.Directory, err = NewDirectory(Options{
		Account: testAccount, Root: Credentials{rootKey, "the-roots-own-secret"}, File: b.path,
		Clock: func() time.Time { return b.now }, Report: func(r Reload) { b.reports = append(b.reports, r) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// write puts a text into the file, as of the bench's present.
func (b *bench) write(text string) {
	b.t.Helper()
	if err := os.WriteFile(b.path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chtimes(b.path, b.now, b.now); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) edit(old, new string) {
	b.t.Helper()
	text, err := os.ReadFile(b.path)
	if err != nil || !strings.Contains(string(text), old) {
		b.t.Fatalf("the file has no %q: %v", old, err)
	}
	b.write(strings.ReplaceAll(string(text), old, new))
}

func (b *bench) knows(id string) bool {
	_, err := b.Lookup(context.Background(), id)
	if err != nil && !fault.Is(err, fault.UnknownKey) {
		b.t.Fatal(err)
	}
	return err == nil
}

func (b *bench) judge(p Principal, action string, tags map[string]string) Outcome {
	return b.Judge(context.Background(), Request{Principal: p, Action: action, Resource: testStore, Values: Values{ResourceTags: tags}}).Outcome
}

func TestLookup(t *testing.T) {
	b := newBench(t)
	for id, want := range map[string]Key{
		rootKey: {SecretAccessKey: "the-roots-own-secret", Principal: rootARN},
		annKey:  {SecretAccessKey: "anns-first-secret-000000", Principal: annARN},
		bobKey:  {SecretAccessKey: "bobs-only-secret-000000", Principal: bobARN},
	} {
		if got, err := b.Lookup(context.Background(), id); err != nil || got != want {
			t.Errorf("%s: %v, %v", id, got, err)
		}
	}
	for _, id := range []string{"", "AKIANOBODY", "AKIAANN00000000002"} { // the last is switched off
		if b.knows(id) {
			t.Errorf("%q is known", id)
		}
	}
}

func TestJudge(t *testing.T) {
	b := newBench(t)
	ann, bob := Principal{annARN, annKey}, Principal{bobARN, bobKey}
	for _, c := range []struct {
		who    Principal
		action string
		tags   map[string]string
		want   Outcome
	}{
		{ann, "healthlake:ReadResource", map[string]string{"ward": "a"}, Allowed},
		{ann, "healthlake:ReadResource", map[string]string{"ward": "b"}, NotAllowed},
		{ann, "healthlake:CreateResource", map[string]string{"ward": "a"}, NotAllowed},
		{bob, "healthlake:CreateResource", nil, Allowed},
		{bob, "healthlake:DeleteResource", nil, Denied},
		{Principal{rootARN, rootKey}, "healthlake:DeleteFHIRDatastore", nil, Allowed},
		{Principal{ARN: roleBase + "smart"}, "healthlake:ReadResource", nil, Allowed},
		{Principal{ARN: roleBase + "smart"}, "healthlake:CreateResource", nil, NotAllowed},
		{Principal{ARN: roleBase + "nobody"}, "healthlake:ReadResource", nil, NotAllowed},
		{Anonymous, "healthlake:GetCapabilities", nil, Allowed},
		{Anonymous, "healthlake:Discovery", nil, Allowed},
		{Anonymous, "healthlake:ReadResource", nil, NotAllowed},
	} {
		if got := b.judge(c.who, c.action, c.tags); got != c.want {
			t.Errorf("%s %s %v: %v, want %v", c.who.ARN, c.action, c.tags, got, c.want)
		}
	}
}

func TestAuthorizeWords(t *testing.T) {
	b := newBench(t)
	r := Request{Principal: Principal{bobARN, bobKey}, Action: "healthlake:DeleteResource", Resource: testStore}
	denied := Authorize(context.Background(), b, r)
	if !fault.Is(denied, fault.Forbidden) || !strings.Contains(denied.Error(),
		"User: "+bobARN+" is not authorized to perform: healthlake:DeleteResource on resource: "+testStore+" with an explicit deny in an identity-based policy") {
		t.Errorf("%v", denied)
	}
	if err := Unless(context.Background(), b, r); !fault.Is(err, fault.Forbidden) {
		t.Errorf("denied, and yet: %v", err)
	}
	r.Principal = Principal{annARN, annKey}
	silent := Authorize(context.Background(), b, r)
	if !strings.Contains(fmt.Sprint(silent), "because no identity-based policy allows the healthlake:DeleteResource action") {
		t.Errorf("%v", silent)
	}
	if err := Unless(context.Background(), b, r); err != nil {
		t.Errorf("nothing denies it: %v", err)
	}
}

func TestLastUsed(t *testing.T) {
	b := newBench(t)
	if when, ok := b.LastUsed(annKey); ok {
		t.Errorf("used at %v before any use", when)
	}
	b.judge(Principal{annARN, annKey}, "healthlake:ReadResource", nil)
	used := b.now
	b.now = b.now.Add(time.Minute)
	b.edit("level: 3", "level: 4") // the use outlives another reading
	if when, ok := b.LastUsed(annKey); !ok || !when.Equal(used) {
		t.Errorf("%v, %v, want %v", when, ok, used)
	}
	b.judge(Principal{rootARN, rootKey}, "healthlake:ReadResource", nil)
	if when, ok := b.LastUsed(rootKey); !ok || !when.Equal(b.now) {
		t.Errorf("the root's: %v, %v", when, ok)
	}
}

func TestReload(t *testing.T) {
	b := newBench(t)
	b.edit("AKIABOB00000000001", "AKIABOB00000000009")
	if !b.knows(bobKey) {
		t.Error("the file was looked at again within the second")
	}
	b.now = b.now.Add(pollEvery)
	if b.knows(bobKey) || !b.knows("AKIABOB00000000009") {
		t.Error("the change is not in force after a second")
	}
	b.now = b.now.Add(time.Hour)
	b.knows(annKey)
	if len(b.reports) != 1 || b.reports[0].Err != nil {
		t.Errorf("reports: %v", b.reports)
	}
}

// TestReloadSameSizeAndTime: two changes of one length within one tick of the
// file system's clock.
func TestReloadSameSizeAndTime(t *testing.T) {
	b := newBench(t)
	changed := b.now
	b.now = b.now.Add(pollEvery)
	b.knows(annKey)
	b.edit("anns-first-secret-000000", "anns-other-secret-000000")
	if err := os.Chtimes(b.path, changed, changed); err != nil {
		t.Fatal(err)
	}
	b.now = changed.Add(settled)
	if key, err := b.Lookup(context.Background(), annKey); err != nil || key.SecretAccessKey != "anns-other-secret-000000" {
		t.Errorf("the change was not seen: %v", err)
	}
}

func TestReloadKeepsTheOldWhenTheNewIsWrong(t *testing.T) {
	b := newBench(t)
	for i, spoil := range []func(){
		func() { b.edit("Effect: Allow", "Effect: Maybe") },
		func() { b.edit("Effect: Maybe", "Effect: Perhaps") },
		func() {
			if err := os.Chmod(b.path, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		func() {
			if err := os.Remove(b.path); err != nil {
				t.Fatal(err)
			}
		},
		func() {
			b.write("users: [{name: x, accessKeys: [{accessKeyId: " + rootKey + ", secretAccessKey: 0123456789012345}]}]")
		},
	} {
		b.now = b.now.Add(time.Minute)
		spoil()
		for range 3 {
			b.now = b.now.Add(pollEvery)
			if !b.knows(annKey) {
				t.Fatalf("%d: what was in force is gone", i)
			}
		}
		if len(b.reports) != i+1 || b.reports[i].Err == nil {
			t.Fatalf("%d: reports: %v", i, b.reports)
		}
	}
	b.now = b.now.Add(time.Minute)
	b.write("users: [{name: carl, accessKeys: [{accessKeyId: AKIACARL, secretAccessKey: 0123456789012345}]}]")
	if b.knows(annKey) || !b.knows("AKIACARL") || b.reports[len(b.reports)-1].Err != nil {
		t.Errorf("the mended file is not in force: %v", b.reports)
	}
}

func TestNewDirectoryRefuses(t *testing.T) {
	good := Options{Account: testAccount, Root: Credentials{rootKey, "secret"}, Clock: time.Now}
	if _, err := NewDirectory(good); err != nil {
		t.Fatalf("without a file: %v", err)
	}
	open := filepath.Join(t.TempDir(), "open.yaml")
	if err := os.WriteFile(open, []byte("users: []"), 0o604); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Options){
		"no account":     func(o *Options) { o.Account = "" },
		"no root":        func(o *Options) { o.Root = Credentials{} },
		"no clock":       func(o *Options) { o.Clock = nil },
		"no file":        func(o *Options) { o.File = filepath.Join(t.TempDir(), "absent") },
		"open to others": func(o *Options) { o.File = open },
	} {
		o := good
		change(&o)
		if _, err := NewDirectory(o); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	b := newBench(t)
	key, err := b.Lookup(context.Background(), annKey)
	if err != nil {
		t.Fatal(err)
	}
	session, err := b.SessionToken(context.Background(), Principal{annARN, annKey}, 0)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	fmt.Fprintf(&printed, "%v %+v %#v %s %v %+v %#v %v %#v", key, key, key, key, session, session, session, session.Credentials, session.Credentials)
	for _, secret := range []string{key.SecretAccessKey, session.SecretAccessKey, session.SessionToken} {
		if strings.Contains(printed.String(), secret) {
			t.Errorf("%s", printed.String())
		}
	}
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	b := newBench(t)
	var mu sync.Mutex
	b.options.Clock = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		b.now = b.now.Add(100 * time.Millisecond)
		return b.now
	}
	b.options.Report = nil
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 50 {
				if !b.knows(annKey) || b.judge(Principal{bobARN, bobKey}, "healthlake:ReadResource", nil) != Allowed {
					t.Error("not known or not allowed")
				}
				if _, err := b.SessionToken(context.Background(), Principal{annARN, annKey}, 0); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					b.LastUsed(annKey)
				}
			}
		})
	}
	group.Go(func() {
		for range 5 {
			text, err := os.ReadFile(b.path)
			if err == nil {
				err = os.WriteFile(b.path+".new", append(text, '\n'), 0o600)
			}
			if err == nil {
				err = os.Rename(b.path+".new", b.path)
			}
			if err != nil {
				t.Error(err)
			}
		}
	})
	group.Wait()
}
