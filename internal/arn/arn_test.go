package arn_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/fault"
)

const id = "0b7c0b7c0b7c0b7c0b7c0b7c0b7c0b7c"

func TestParse(t *testing.T) {
	for _, test := range []struct {
		in   string
		want arn.ARN
	}{
		{"arn:aws:iam::111122223333:role/hl", arn.ARN{"aws", "iam", "", "111122223333", "role/hl"}},
		{"arn:aws:kms:us-east-1:111122223333:key/a:b", arn.ARN{"aws", "kms", "us-east-1", "111122223333", "key/a:b"}},
		{"arn:aws-us-gov:s3:::bucket", arn.ARN{"aws-us-gov", "s3", "", "", "bucket"}},
	} {
		got, err := arn.Parse(test.in)
		if err != nil || got != test.want {
			t.Errorf("Parse(%q) = %+v, %v; want %+v", test.in, got, err, test.want)
		}
		if got.String() != test.in {
			t.Errorf("Parse(%q).String() = %q", test.in, got)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"empty":           "",
		"no ARN":          "datastore/fhir/" + id,
		"five fields":     "arn:aws:iam::111122223333",
		"other scheme":    "urn:aws:iam::111122223333:root",
		"other partition": "arn:awsx:iam::111122223333:root",
		"no service":      "arn:aws:::111122223333:root",
		"short account":   "arn:aws:iam::11112222333:root",
		"letter account":  "arn:aws:iam::11112222333x:root",
		"no resource":     "arn:aws:iam::111122223333:",
		"line break":      "arn:aws:iam::111122223333:role/a\nb",
		"region":          "arn:aws:kms:us east:111122223333:key/a",
		"long":            "arn:aws:iam::111122223333:role/" + strings.Repeat("a", arn.LengthMax),
	} {
		if got, err := arn.Parse(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: Parse = %+v, %v; want Invalid", name, got, err)
		}
	}
}

func TestParseLengthBound(t *testing.T) {
	const head = "arn:aws:iam::111122223333:role/"
	longest := head + strings.Repeat("a", arn.LengthMax-len(head))
	if _, err := arn.Parse(longest); err != nil {
		t.Errorf("an ARN of %d bytes is refused: %v", len(longest), err)
	}
	if _, err := arn.Parse(longest + "a"); err == nil {
		t.Errorf("an ARN of %d bytes is taken", len(longest)+1)
	}
}

func TestDatastore(t *testing.T) {
	const want = "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + id
	if got := arn.Datastore("aws", "us-east-1", "111122223333", id); got != want {
		t.Errorf("Datastore = %q, want %q", got, want)
	}
	for _, in := range []string{want, strings.Replace(want, "fhir/", "", 1)} {
		got, err := arn.ParseDatastore(in)
		if err != nil || got != (arn.DatastoreName{"aws", "us-east-1", "111122223333", id}) {
			t.Errorf("ParseDatastore(%q) = %+v, %v", in, got, err)
		}
		if got.String() != want {
			t.Errorf("ParseDatastore(%q).String() = %q", in, got)
		}
	}
}

func TestParseDatastoreRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"no ARN":         id,
		"other service":  "arn:aws:kms:us-east-1:111122223333:datastore/fhir/" + id,
		"other resource": "arn:aws:healthlake:us-east-1:111122223333:dataTransformationProfile/" + id,
		"no region":      "arn:aws:healthlake::111122223333:datastore/fhir/" + id,
		"no account":     "arn:aws:healthlake:us-east-1::datastore/fhir/" + id,
		"twice fhir":     "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/fhir/" + id,
		"upper case id":  "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + strings.ToUpper(id),
		"short id":       "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + id[1:],
		"path after":     "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + id + "/x",
	} {
		if got, err := arn.ParseDatastore(in); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: ParseDatastore = %+v, %v; want Invalid", name, got, err)
		}
	}
}

func TestRoot(t *testing.T) {
	if got, want := arn.Root("aws", "111122223333"), "arn:aws:iam::111122223333:root"; got != want {
		t.Errorf("Root = %q, want %q", got, want)
	}
}

func TestMint(t *testing.T) {
	zeros, ones := bytes.Repeat([]byte{0}, 16), bytes.Repeat([]byte{0xff}, 16)
	for _, test := range []struct {
		name   string
		mint   func(io.Reader) (string, error)
		random []byte
		want   string
	}{
		{"data store", arn.NewDatastoreID, zeros, strings.Repeat("0", 32)},
		{"data store", arn.NewDatastoreID, ones, strings.Repeat("f", 32)},
		{"job", arn.NewJobID, ones, strings.Repeat("f", 32)},
		{"request", arn.NewRequestID, zeros, "00000000-0000-4000-8000-000000000000"},
		{"request", arn.NewRequestID, ones, "ffffffff-ffff-4fff-bfff-ffffffffffff"},
	} {
		got, err := test.mint(bytes.NewReader(test.random))
		if err != nil || got != test.want {
			t.Errorf("%s id of %x = %q, %v; want %q", test.name, test.random[0], got, err, test.want)
		}
	}
}

func TestMintOfShortRandomness(t *testing.T) {
	broken := errors.New("no randomness left")
	for name, mint := range map[string]func(io.Reader) (string, error){
		"data store": arn.NewDatastoreID, "job": arn.NewJobID, "request": arn.NewRequestID,
	} {
		if _, err := mint(iotest.ErrReader(broken)); !errors.Is(err, broken) || !fault.Is(err, fault.Internal) {
			t.Errorf("%s: error = %v, want Internal around %v", name, err, broken)
		}
		if got, err := mint(strings.NewReader("short")); err == nil || got != "" {
			t.Errorf("%s: five bytes of randomness give %q, %v", name, got, err)
		}
	}
}

func TestMintedShapes(t *testing.T) {
	datastore, err := arn.NewDatastoreID(rand.Reader)
	if err != nil || !arn.IsDatastoreID(datastore) {
		t.Errorf("data store id %q, %v", datastore, err)
	}
	job, err := arn.NewJobID(rand.Reader)
	if err != nil || !arn.IsJobID(job) || job == datastore {
		t.Errorf("job id %q, %v", job, err)
	}
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	request, err := arn.NewRequestID(rand.Reader)
	if err != nil || !uuid.MatchString(request) {
		t.Errorf("request id %q, %v", request, err)
	}
}

func FuzzParseDatastore(f *testing.F) {
	f.Add("arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/" + id)
	f.Add("arn:aws-cn:healthlake:cn-north-1:111122223333:datastore/" + id)
	f.Add("arn:aws:iam::111122223333:role/hl")
	f.Add("arn:::::")
	f.Fuzz(func(t *testing.T, s string) {
		if any, err := arn.Parse(s); err == nil && any.String() != s {
			t.Errorf("Parse(%q) writes back %q", s, any)
		}
		name, err := arn.ParseDatastore(s)
		if err != nil {
			return
		}
		if again, err := arn.ParseDatastore(name.String()); err != nil || again != name {
			t.Errorf("%q is read as %+v, which is read as %+v, %v", s, name, again, err)
		}
	})
}
