// Package blob reads and writes objects in buckets: what imports read and
// exports write.
//
//	s3://bucket/key      an S3-compatible server (S3), or a folder of buckets (Dir)
//	file:///path/key     folders that the configuration names (Files)
//
//	bucket, err := schemes.Bucket(ctx, at, blob.Access{Role: …, KMSKey: …})
//	for object, err := range bucket.List(ctx, "ndjson/") { … }
//	in, err := bucket.Open(ctx, object.Key, blob.Read{Offset: 4096, Version: object.Version})
//	out, err := bucket.Create(ctx, "out/Patient.ndjson")   // there once Commit returns, whole or not at all
//
// Errors are *fault.Error with these kinds: NotFound (no such bucket or object),
// Forbidden (credentials that do not suffice), Conflict (the object is no longer
// the Version that was asked for), Full, Invalid (no location, no usable key),
// Unavailable and Timeout (the storage cannot be reached, or is not able to
// answer: try again), Canceled, Internal.
package blob

import (
	"context"
	"io"
	"iter"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Location is where an object is, or where those with a prefix are.
type Location struct {
	Scheme string // "s3", "file"
	Bucket string // empty for file
	Key    string // object key or prefix, without a slash in front
}

// maxLocation bounds a location in bytes (S3Uri, healthlake-2017-07-01).
const maxLocation = 1024

// Parse reads a location: scheme://bucket/key. Keys are taken as they stand,
// without percent-decoding, as S3 URIs are. A location that is none is
// fault.Invalid.
func Parse(uri string) (Location, error) {
	scheme, rest, found := strings.Cut(uri, "://")
	if !found || scheme == "" || len(uri) > maxLocation || strings.ContainsRune(uri, 0) {
		return Location{}, &fault.Error{Kind: fault.Invalid, Op: "blob.Parse", Subject: "S3Uri", Detail: "not a location",
			Hint: "use s3://bucket/prefix"}
	}
	bucket, key, _ := strings.Cut(rest, "/")
	if bucket == "" != (scheme == "file") {
		return Location{}, &fault.Error{Kind: fault.Invalid, Op: "blob.Parse", Subject: "S3Uri", Detail: "the bucket is missing or not allowed",
			Hint: "use s3://bucket/prefix, or file:///path"}
	}
	return Location{scheme, bucket, key}, nil
}

func (l Location) String() string { return l.Scheme + "://" + l.Bucket + "/" + l.Key }

// Under is the location of a name below this one.
func (l Location) Under(name string) Location {
	if l.Key != "" && !strings.HasSuffix(l.Key, "/") {
		l.Key += "/"
	}
	l.Key += name
	return l
}

// Object is one object as a bucket lists it.
type Object struct {
	Key     string
	Size    int64  // bytes
	Version string // changes whenever the content does; opaque
}

// Name is the last part of the object's key.
func (o Object) Name() string { return path.Base(o.Key) }

// Read says which bytes of an object to read.
type Read struct {
	Offset  int64  // first byte
	Version string // as listed: another content is fault.Conflict; empty: whatever is there
	// Size is the object's size in bytes as listed, 0 when unknown; with it a
	// bucket behind a network fetches pieces of a large object side by side.
	Size int64
}

// Bucket is access to one bucket, with the rights of one role.
type Bucket interface {
	// Check asks whether the bucket is there and may be listed.
	Check(ctx context.Context) error
	// List gives the objects whose keys begin with prefix, in the order of their
	// keys. What stands for a folder (a key that ends in a slash) is left out. An
	// error ends the list.
	List(ctx context.Context, prefix string) iter.Seq2[Object, error]
	// Open reads an object.
	Open(ctx context.Context, key string, r Read) (io.ReadCloser, error)
	// Create begins an object, which takes the place of one with the same key.
	// ctx bounds the whole writing. A key has one writer at a time.
	Create(ctx context.Context, key string) (Writer, error)
	// Delete takes an object away; one that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// Writer writes one object.
type Writer interface {
	io.Writer
	// Commit makes the object what was written, durably.
	Commit() error
	// Abort leaves nothing of what was written; after Commit it does nothing.
	Abort() error
}

// Access is in whose name a bucket is used, and how what is written is sealed
// there.
type Access struct {
	Role   string // ARN of the role (DataAccessRoleArn)
	KMSKey string // the key that objects are sealed under (KmsKeyId)
}

// Storage gives access to the buckets of one kind of storage.
type Storage interface {
	Bucket(ctx context.Context, at Location, as Access) (Bucket, error)
}

// Schemes are the storages there are, by the scheme of their locations.
type Schemes map[string]Storage

// Bucket implements Storage.
func (s Schemes) Bucket(ctx context.Context, at Location, as Access) (Bucket, error) {
	storage, known := s[at.Scheme]
	if !known {
		return nil, &fault.Error{Kind: fault.Invalid, Op: "blob.Bucket", Subject: at.Scheme + "://",
			Detail: "this server has no such storage", Hint: "use " + strings.Join(s.names(), " or ")}
	}
	return storage.Bucket(ctx, at, as)
}

// Has reports whether locations of a scheme can be used.
func (s Schemes) Has(scheme string) bool { return s[scheme] != nil }

func (s Schemes) names() []string {
	names := slices.Sorted(maps.Keys(s))
	for i := range names {
		names[i] += "://"
	}
	return names
}

// WriteAll makes an object of these bytes.
func WriteAll(ctx context.Context, b Bucket, key string, content []byte) error {
	w, err := b.Create(ctx, key)
	if err != nil {
		return err
	}
	if _, err := w.Write(content); err != nil {
		return firstOf(err, w.Abort())
	}
	return w.Commit()
}

// firstOf is the error that matters: of an abort after a failure nobody needs to
// hear.
func firstOf(err, _ error) error { return err }

// FileLocation is the location of a path on this machine.
func FileLocation(absolute string) Location {
	return Location{Scheme: "file", Key: strings.TrimPrefix((&url.URL{Path: absolute}).Path, "/")}
}
