package fhir_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 7_000_000, time.UTC)

func store(t testing.TB, text string) []byte {
	t.Helper()
	stored, err := fhir.Store(mustParse(t, text))
	if err != nil {
		t.Fatalf("Store(%s): %v", text, err)
	}
	return stored
}

func TestAppendResourcePutsServerMembersInPlace(t *testing.T) {
	const v, u = `"versionId":"7"`, `"lastUpdated":"2026-11-23T12:00:00.007Z"`
	for _, tt := range []struct{ in, want, json string }{
		{
			`{"resourceType":"Patient"}`,
			`{"resourceType":"Patient","id":"new","meta":{` + v + `,` + u + `}}`,
			`{"resourceType":"Patient"}`,
		}, {
			`{"resourceType":"Patient","active":true}`,
			`{"resourceType":"Patient","id":"new","meta":{` + v + `,` + u + `},"active":true}`,
			`{"resourceType":"Patient","active":true}`,
		}, {
			`{"active":true,"resourceType":"Patient","x":1.10}`,
			`{"active":true,"resourceType":"Patient","id":"new","meta":{` + v + `,` + u + `},"x":1.10}`,
			`{"active":true,"resourceType":"Patient","x":1.10}`,
		}, {
			`{"id":"old","resourceType":"Patient"}`,
			`{"id":"new","meta":{` + v + `,` + u + `},"resourceType":"Patient"}`,
			`{"resourceType":"Patient"}`,
		}, {
			`{"resourceType":"Patient","x":1,"id":"old"}`,
			`{"resourceType":"Patient","x":1,"id":"new","meta":{` + v + `,` + u + `}}`,
			`{"resourceType":"Patient","x":1}`,
		}, {
			`{"resourceType":"Patient","id":"old","meta":{}}`,
			`{"resourceType":"Patient","id":"new","meta":{` + v + `,` + u + `}}`,
			`{"resourceType":"Patient","meta":{}}`,
		}, {
			`{"resourceType":"Patient","id":"old","meta":{"versionId":"1"}}`,
			`{"resourceType":"Patient","id":"new","meta":{` + u + `,` + v + `}}`,
			`{"resourceType":"Patient","meta":{}}`,
		}, {
			`{"resourceType":"Patient","meta":{"profile":["p"]},"id":"old"}`,
			`{"resourceType":"Patient","meta":{` + v + `,` + u + `,"profile":["p"]},"id":"new"}`,
			`{"resourceType":"Patient","meta":{"profile":["p"]}}`,
		}, {
			`{"meta":{"lastUpdated":"x","profile":["p"],"versionId":"3"},"id":"old","resourceType":"Patient"}`,
			`{"meta":{` + u + `,"profile":["p"],` + v + `},"id":"new","resourceType":"Patient"}`,
			`{"meta":{"profile":["p"]},"resourceType":"Patient"}`,
		}, {
			`{"id":"old","meta":{"source":"s","lastUpdated":"x","versionId":"1","tag":[]},"resourceType":"Patient"}`,
			`{"id":"new","meta":{"source":"s",` + u + `,` + v + `,"tag":[]},"resourceType":"Patient"}`,
			`{"meta":{"source":"s","tag":[]},"resourceType":"Patient"}`,
		}, {
			" {\n \"resourceType\" : \"Patient\",\n \"\\u0069d\" : 5, \"meta\" : { \"tag\" : [ \" \\\" { \" ] } , \"v\": 1e3 }\n",
			`{"resourceType":"Patient","id":"new","meta":{` + v + `,` + u + `,"tag":[" \" { "]},"v":1e3}`,
			`{"resourceType":"Patient","meta":{"tag":[" \" { "]},"v":1e3}`,
		}, {
			`{"resourceType":"Patient","contained":[{"id":"c","meta":{"versionId":"9"}}],"_id":{"extension":[]}}`,
			`{"resourceType":"Patient","id":"new","meta":{` + v + `,` + u + `},"contained":[{"id":"c","meta":{"versionId":"9"}}],"_id":{"extension":[]}}`,
			`{"resourceType":"Patient","contained":[{"id":"c","meta":{"versionId":"9"}}],"_id":{"extension":[]}}`,
		},
	} {
		stored := store(t, tt.in)
		if got := string(fhir.AppendResource([]byte("> "), stored, "new", 7, noon)); got != "> "+tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.in, got, tt.want)
		}
		if got := string(fhir.StoredJSON(stored)); got != tt.json {
			t.Errorf("%s\nstored %s\n  want %s", tt.in, got, tt.json)
		}
		if len(tt.want) > fhir.ResourceSize(stored) {
			t.Errorf("%s: ResourceSize %d is below %d", tt.in, fhir.ResourceSize(stored), len(tt.want))
		}
	}
}

// The stored form is persisted: these bytes may never change.
func TestStoredFormIsFormatOne(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{`{"resourceType":"P","a":1}`, "\x01\x02\x04\x13\x07\x00" + `{"resourceType":"P","a":1}`},
		{`{"id":"x","resourceType":"P","meta":{"versionId":"1","tag":[]}}`,
			"\x01\x03\x08\x01\x0a\x1b\x09\x00" + `{"resourceType":"P","meta":{"tag":[]}}`},
	} {
		if got := string(store(t, tt.in)); got != tt.want {
			t.Errorf("Store(%s)\n got %q\nwant %q", tt.in, got, tt.want)
		}
	}
}

func TestStoreRefuses(t *testing.T) {
	for _, text := range []string{
		`[]`, `1`, `{}`, `{"resourceType":1}`, `{"resourceType":""}`,
		`{"resourceType":"Patient","meta":1}`, `{"resourceType":"Patient","meta":null}`,
	} {
		if stored, err := fhir.Store(mustParse(t, text)); !fault.Is(err, fault.Invalid) {
			t.Errorf("Store(%s) = %q, %v, want Invalid", text, stored, err)
		}
	}
}

func TestDamagedStoredFormsAreRefused(t *testing.T) {
	whole := store(t, `{"resourceType":"P"}`)
	for _, stored := range [][]byte{
		nil, {1}, {2, 0, '{', '}'}, {1, 4}, {1, 1}, {1, 1, 4}, {1, 1, 16, 0, '{', '}'}, {1, 1, 0, 9, '{', '}'},
		{1, 1, 0, 0x80}, {1, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, whole[:8],
	} {
		if err := fhir.CheckStored(stored); !fault.Is(err, fault.Internal) {
			t.Errorf("CheckStored(%q) = %v, want Internal", stored, err)
		}
		if got := fhir.AppendResource([]byte("dst"), stored, "x", 1, noon); string(got) != "dst" {
			t.Errorf("AppendResource(%q) = %q", stored, got)
		}
		if got := fhir.StoredJSON(stored); got != nil {
			t.Errorf("StoredJSON(%q) = %q", stored, got)
		}
	}
	if err := fhir.CheckStored(whole); err != nil {
		t.Error(err)
	}
}

// withoutServerMembers is a second way to what Store leaves out, by editing.
func withoutServerMembers(t testing.TB, d *fhir.Document) string {
	t.Helper()
	root := d.Root()
	meta := root.Get("meta")
	return string(fhir.Compact(fhir.Apply(d, []fhir.Edit{
		{Node: root.Get("id")}, {Node: meta.Get("versionId")}, {Node: meta.Get("lastUpdated")},
	})))
}

// checkStored is the property of the stored form: a read gives what was sent,
// but for the three members, and those right.
func checkStored(t testing.TB, d *fhir.Document) {
	t.Helper()
	stored, err := fhir.Store(d)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(fhir.StoredJSON(stored)), withoutServerMembers(t, d); got != want {
		t.Fatalf("stored JSON\n%s\nwant\n%s", got, want)
	}
	read := mustParse(t, string(fhir.AppendResource(nil, stored, "some-id", 42, noon)))
	meta := read.Root().Get("meta")
	if read.ID() != "some-id" || !meta.Get("versionId").Is("42") || !meta.Get("lastUpdated").Is("2026-11-23T12:00:00.007Z") {
		t.Fatalf("server members are wrong in %s", read.Bytes())
	}
	if !d.Root().Get("meta").Exists() {
		without := fhir.Apply(read, []fhir.Edit{{Node: meta}})
		checkSame(t, withoutServerMembers(t, mustParse(t, string(without))), withoutServerMembers(t, d))
	} else {
		checkSame(t, withoutServerMembers(t, read), withoutServerMembers(t, d))
	}
	again, err := fhir.Store(read)
	if err != nil {
		t.Fatal(err)
	}
	if twice := fhir.AppendResource(nil, again, "some-id", 42, noon); !bytes.Equal(twice, read.Bytes()) {
		t.Fatalf("stored again\n%s\nwant\n%s", twice, read.Bytes())
	}
}

func checkSame(t testing.TB, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("got\n%s\nwant\n%s", got, want)
	}
}

func FuzzStore(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Patient","id":"x","meta":{"versionId":"1","lastUpdated":"y"}}`))
	f.Add([]byte(` { "id" : 1 , "meta" : { "tag" : [ ] , "versionId" : 2 } , "resourceType" : "P" , "n" : 1.10 } `))
	f.Add([]byte(`{"meta":{"a":1},"resourceType":"P"}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		if err := fhir.CheckStored(src); err == nil {
			fhir.AppendResource(nil, src, "x", 1, noon)
			fhir.StoredJSON(src)
		}
		d, err := fhir.Parse(src)
		if err != nil {
			return
		}
		if _, err := fhir.Store(d); err == nil {
			checkStored(t, d)
		}
	})
}
