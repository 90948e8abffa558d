package blob

import (
	"strings"
	"testing"

	cloud "gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
)

// NewMemoryCloud is a Cloud whose bucket at a location is in memory.
func NewMemoryCloud(t testing.TB, at string) *Cloud {
	t.Helper()
	parsed, err := Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	name := parsed.Scheme + "://" + parsed.Bucket
	c, err := NewCloud([]string{name})
	if err != nil {
		t.Fatal(err)
	}
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { _ = bucket.Close() /* nothing is kept */ })
	c.open = map[string]*cloud.Bucket{strings.TrimSuffix(name, "/"): bucket}
	return c
}
