package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/fault"
)

const role = "arn:aws:iam::111122223333:role/hl"

// world is one storage with an empty bucket.
type world struct {
	storage blob.Storage
	at      blob.Location
	front   func(http.Handler) // stands before the S3 server; nil for folders
}

// serve starts an S3 server; what stands before it may be changed.
func serve(t *testing.T, tls bool) (*world, *httptest.Server) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("in"); err != nil {
		t.Fatal(err)
	}
	fake := gofakes3.New(backend).Server()
	var inner http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if ifMatch(fake, w, r) {
			fake.ServeHTTP(w, r)
		}
	})
	front := inner
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { front.ServeHTTP(w, r) }))
	if tls {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	clients := &blob.Clients{
		Own: aws.Config{
			Region: "us-east-1", BaseEndpoint: &server.URL, HTTPClient: server.Client(),
			Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
		},
		Account: "111122223333",
		Options: func(o *s3.Options) {
			o.UsePathStyle, o.RetryMaxAttempts = true, 1
			if tls {
				// The fake does not read the trailing checksums that the SDK sends where
				// TLS spares it from signing a body. A real server does: test/blackbox.
				o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			}
		},
	}
	w := &world{storage: blob.S3{Client: clients.Client, Seal: true}, at: location(t, "s3://in/")}
	w.front = func(h http.Handler) {
		if h == nil {
			h = inner
		}
		front = h
	}
	return w, server
}

// ifMatch judges a read's If-Match, which the fake passes over.
func ifMatch(fake http.Handler, w http.ResponseWriter, r *http.Request) bool {
	want := r.Header.Get("If-Match")
	if r.Method != http.MethodGet || want == "" {
		return true
	}
	head := r.Clone(r.Context())
	head.Method = http.MethodHead
	head.Header.Del("Range")
	answer := httptest.NewRecorder()
	fake.ServeHTTP(answer, head)
	if answer.Header().Get("ETag") == want {
		return true
	}
	w.WriteHeader(http.StatusPreconditionFailed)
	return false
}

func location(t *testing.T, uri string) blob.Location {
	t.Helper()
	at, err := blob.Parse(uri)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// each runs a test over every storage.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	t.Run("dir", func(t *testing.T) {
		root := t.TempDir()
		if err := os.Mkdir(filepath.Join(root, "in"), 0o700); err != nil {
			t.Fatal(err)
		}
		test(t, &world{storage: blob.Dir{Root: root}, at: location(t, "s3://in/")})
	})
	t.Run("files", func(t *testing.T) {
		root := t.TempDir()
		test(t, &world{storage: blob.Files{Allowed: []string{root}}, at: blob.FileLocation(root + "/")})
	})
	for _, at := range []string{"gs://in/", "azblob://in/pre/"} {
		t.Run(at[:2], func(t *testing.T) { test(t, &world{storage: blob.NewMemoryCloud(t, at), at: location(t, at)}) })
	}
	t.Run("s3", func(t *testing.T) { w, _ := serve(t, false); test(t, w) })
	t.Run("s3 with TLS", func(t *testing.T) { w, _ := serve(t, true); test(t, w) })
}

func (w *world) bucket(t *testing.T) blob.Bucket {
	t.Helper()
	b, err := w.storage.Bucket(t.Context(), w.at, blob.Access{Role: role, KMSKey: "alias/jobs"})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, b blob.Bucket, key string, content []byte) {
	t.Helper()
	if err := blob.WriteAll(t.Context(), b, key, content); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
}

func read(t *testing.T, b blob.Bucket, key string, r blob.Read) ([]byte, error) {
	t.Helper()
	in, err := b.Open(t.Context(), key, r)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return io.ReadAll(in)
}

func list(t *testing.T, b blob.Bucket, prefix string) []blob.Object {
	t.Helper()
	var all []blob.Object
	for o, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, o)
	}
	return all
}

func wantKind(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: %v, want %v", what, err, kind)
	}
}

// Small objects, and one of several parts and pieces, come back as written, from
// any offset, with and without what the list says of them.
func TestWriteListRead(t *testing.T) {
	large := make([]byte, 19<<20+17)
	src := rand.NewChaCha8([32]byte{1})
	src.Read(large)
	each(t, func(t *testing.T, w *world) {
		b := w.bucket(t)
		if err := b.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		prefix := w.at.Key
		contents := map[string][]byte{
			prefix + "a/one.ndjson": []byte("one\n"), prefix + "a/empty": {}, prefix + "ab": []byte("beside"),
			prefix + "a/deep/er/two words+é.ndjson": []byte("two\n"), prefix + "large": large,
		}
		for key, content := range contents {
			put(t, b, key, content)
		}
		put(t, b, prefix+"ab", []byte("again"))
		contents[prefix+"ab"] = []byte("again")
		if all := list(t, b, prefix); len(all) != len(contents) {
			t.Errorf("%d objects listed: %v", len(all), all)
		}
		if below := list(t, b, prefix+"a/"); len(below) != 3 {
			t.Errorf("below a/: %v", below)
		}
		if none := list(t, b, prefix+"zzz/"); none != nil {
			t.Errorf("below zzz/: %v", none)
		}
		for _, o := range list(t, b, prefix) {
			want := contents[o.Key]
			if o.Size != int64(len(want)) {
				t.Errorf("%s has %d bytes in the list, want %d", o.Key, o.Size, len(want))
			}
			for _, offset := range []int64{0, int64(len(want)) / 2, int64(len(want))} {
				for _, r := range []blob.Read{{Offset: offset}, {Offset: offset, Version: o.Version, Size: o.Size}} {
					got, err := read(t, b, o.Key, r)
					if err != nil || !bytes.Equal(got, want[offset:]) {
						t.Errorf("%s from %d: %d bytes, %v; want %d", o.Key, offset, len(got), err, len(want)-int(offset))
					}
				}
			}
		}
		if err := errors.Join(b.Delete(t.Context(), prefix+"ab"), b.Delete(t.Context(), prefix+"ab")); err != nil {
			t.Error(err)
		}
		_, err := read(t, b, prefix+"ab", blob.Read{})
		wantKind(t, "a deleted object", err, fault.NotFound)
	})
}

func TestChangedObjectIsNotRead(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := w.bucket(t)
		key := w.at.Key + "x"
		put(t, b, key, []byte("first"))
		listed := list(t, b, key)[0]
		put(t, b, key, []byte("changed"))
		_, err := read(t, b, key, blob.Read{Version: listed.Version, Size: listed.Size})
		wantKind(t, "an object that was changed", err, fault.Conflict)
	})
}

func TestAbortLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		b := w.bucket(t)
		for name, size := range map[string]int{"small": 10, "large": 20 << 20} {
			out, err := b.Create(t.Context(), w.at.Key+name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(out, zeros{}, int64(size)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(out.Abort(), out.Abort()); err != nil {
				t.Error(err)
			}
		}
		if all := list(t, b, w.at.Key); all != nil {
			t.Errorf("aborted objects are listed: %v", all)
		}
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestAbsent(t *testing.T) {
	w, _ := serve(t, false)
	root := t.TempDir()
	for name, storage := range map[string]blob.Storage{"s3": w.storage, "dir": blob.Dir{Root: root}} {
		b, err := storage.Bucket(t.Context(), location(t, "s3://nobody/"), blob.Access{Role: role})
		if err != nil {
			t.Fatal(err)
		}
		wantKind(t, name+": Check", b.Check(t.Context()), fault.NotFound)
		_, err = read(t, b, "x", blob.Read{})
		wantKind(t, name+": Open", err, fault.NotFound)
		wantKind(t, name+": Create", blob.WriteAll(t.Context(), b, "x", nil), fault.NotFound)
		for _, err := range b.List(t.Context(), "") {
			wantKind(t, name+": List", err, fault.NotFound)
		}
	}
}

// Nothing outside a bucket's folder is reached.
func TestDirStaysInside(t *testing.T) {
	root := t.TempDir()
	for _, path := range []string{"in/x", "other/secret"} {
		os.MkdirAll(filepath.Dir(filepath.Join(root, path)), 0o700)
		if err := os.WriteFile(filepath.Join(root, path), []byte("s"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(root, "other"), filepath.Join(root, "in", "link")); err != nil {
		t.Fatal(err)
	}
	b, err := blob.Dir{Root: root}.Bucket(t.Context(), location(t, "s3://in/"), blob.Access{})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"../other/secret", "link/secret", "/etc/passwd", "a/../../other/secret", "", ".", "a//b", "x/"} {
		if got, err := read(t, b, key, blob.Read{}); err == nil {
			t.Errorf("%q reads %q", key, got)
		}
		if err := blob.WriteAll(t.Context(), b, key, []byte("!")); err == nil {
			t.Errorf("%q was written", key)
		}
	}
	if all := list(t, b, ""); len(all) != 1 || all[0].Key != "x" {
		t.Errorf("listed: %v", all)
	}
	for _, name := range []string{"..", ".hidden", "a/b"} {
		_, err := blob.Dir{Root: root}.Bucket(t.Context(), blob.Location{Scheme: "s3", Bucket: name}, blob.Access{})
		wantKind(t, name, err, fault.Invalid)
	}
	_, err = blob.Files{Allowed: []string{filepath.Join(root, "in")}}.Bucket(t.Context(), blob.FileLocation(root+"/in/../other/secret"), blob.Access{})
	wantKind(t, "a folder that is not allowed", err, fault.Forbidden)
	_, err = blob.Files{Allowed: []string{filepath.Join(root, "in")}}.Bucket(t.Context(), blob.FileLocation(root+"/inside"), blob.Access{})
	wantKind(t, "a folder beside the allowed one", err, fault.Forbidden)
}

// What S3 answers becomes the right kind, and nothing of its text a client's.
func TestAnswersOfS3(t *testing.T) {
	for _, c := range []struct {
		status int
		code   string
		kind   fault.Kind
	}{
		{403, "AccessDenied", fault.Forbidden},
		{403, "InvalidAccessKeyId", fault.Forbidden},
		{404, "NoSuchBucket", fault.NotFound},
		{404, "NoSuchKey", fault.NotFound},
		{404, "KMS.NotFoundException", fault.FailedDependency},
		{412, "PreconditionFailed", fault.Conflict},
		{503, "SlowDown", fault.Unavailable},
		{500, "InternalError", fault.Unavailable},
		{501, "NotImplemented", fault.Unavailable},
		{400, "AuthorizationHeaderMalformed", fault.FailedDependency},
	} {
		w, _ := serve(t, false)
		w.front(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
			out.Header().Set("Content-Type", "application/xml")
			out.WriteHeader(c.status)
			fmt.Fprintf(out, "<Error><Code>%s</Code><Message>secret of bucket</Message></Error>", c.code)
		}))
		b := w.bucket(t)
		_, err := read(t, b, "x", blob.Read{})
		wantKind(t, c.code, err, c.kind)
		wantKind(t, c.code+" to a write", blob.WriteAll(t.Context(), b, "x", []byte("x")), c.kind)
		if message := fault.From(err).Message(); strings.Contains(message, "secret") {
			t.Errorf("%s: a client reads %q", c.code, message)
		}
	}
}

// A connection that breaks off in the middle of a piece is tried again; an
// unreachable server is Unavailable.
func TestBrokenConnections(t *testing.T) {
	w, server := serve(t, false)
	b := w.bucket(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	put(t, b, "large", content)
	listed := list(t, b, "large")[0]
	whole := server.Config.Handler
	breaks := 0
	w.front(nil)
	server.Config.Handler = http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" && r.Header.Get("Range") != "" && breaks == 0 {
			breaks++
			out.Header().Set("Content-Length", "8388608")
			out.WriteHeader(206)
			out.Write(content[:1000])
			panic(http.ErrAbortHandler)
		}
		whole.ServeHTTP(out, r)
	})
	got, err := read(t, b, "large", blob.Read{Version: listed.Version, Size: listed.Size})
	if err != nil || !bytes.Equal(got, content) || breaks != 1 {
		t.Errorf("%d bytes, %v, %d breaks", len(got), err, breaks)
	}
	server.Close()
	_, err = read(t, b, "large", blob.Read{Size: listed.Size})
	wantKind(t, "a closed server", err, fault.Unavailable)
	wantKind(t, "a closed server", b.Check(t.Context()), fault.Unavailable)
}

// Reading that is called off does not look like the end of the object.
func TestCanceledReadIsNoEnd(t *testing.T) {
	w, _ := serve(t, false)
	b := w.bucket(t)
	put(t, b, "large", make([]byte, 40<<20))
	ctx, cancel := context.WithCancel(t.Context())
	in, err := b.Open(ctx, "large", blob.Read{Size: 40 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if _, err := io.ReadFull(in, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = io.Copy(io.Discard, in)
	wantKind(t, "a canceled read", err, fault.Canceled)
}

func TestRoles(t *testing.T) {
	named := credentials.NewStaticCredentialsProvider("NAMED", "s", "")
	own := credentials.NewStaticCredentialsProvider("OWN", "s", "")
	for _, c := range []struct {
		name  string
		roles map[string]aws.CredentialsProvider
		role  string
		want  string // access key id; empty: forbidden
	}{
		{"the server's account", nil, role, "OWN"},
		{"another account", nil, "arn:aws:iam::999999999999:role/hl", ""},
		{"no role", nil, "arn:aws:iam::111122223333:user/hl", ""},
		{"named", map[string]aws.CredentialsProvider{role: named}, role, "NAMED"},
		{"not named", map[string]aws.CredentialsProvider{role: named}, role + "2", ""},
		{"any", map[string]aws.CredentialsProvider{"*": named}, "arn:aws:iam::999999999999:role/hl", "NAMED"},
	} {
		t.Run(c.name, func(t *testing.T) {
			clients := &blob.Clients{Own: aws.Config{Region: "us-east-1", Credentials: own}, Account: "111122223333", Roles: c.roles}
			client, err := clients.Client(t.Context(), c.role)
			if c.want == "" {
				wantKind(t, "the role", err, fault.Forbidden)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			key, err := client.Options().Credentials.Retrieve(t.Context())
			if err != nil || key.AccessKeyID != c.want {
				t.Errorf("credentials %q, %v; want %q", key.AccessKeyID, err, c.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	for uri, want := range map[string]blob.Location{
		"s3://in":            {Scheme: "s3", Bucket: "in"},
		"s3://in/":           {Scheme: "s3", Bucket: "in"},
		"s3://in/a%20b/c+d":  {Scheme: "s3", Bucket: "in", Key: "a%20b/c+d"},
		"file:///data/x":     {Scheme: "file", Key: "data/x"},
		"gs://bucket/prefix": {Scheme: "gs", Bucket: "bucket", Key: "prefix"},
	} {
		if got, err := blob.Parse(uri); err != nil || got != want {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	for _, uri := range []string{"", "in/x", "s3:///x", "file://host/x", "://x", "s3://" + strings.Repeat("x", 2000)} {
		_, err := blob.Parse(uri)
		wantKind(t, uri, err, fault.Invalid)
	}
	if got := location(t, "s3://b/pre").Under("x/y").String(); got != "s3://b/pre/x/y" {
		t.Error(got)
	}
	_, err := blob.Schemes{"s3": blob.Dir{}}.Bucket(t.Context(), blob.Location{Scheme: "gs"}, blob.Access{})
	wantKind(t, "an unknown scheme", err, fault.Invalid)
}

// Buckets of other clouds are those that the configuration names.
func TestCloudBuckets(t *testing.T) {
	for _, bad := range []string{"gs", "gs://", "s3://in", "azblob://in/prefix", "https://x", "gs://in/\x7f"} {
		_, err := blob.NewCloud([]string{bad})
		wantKind(t, bad, err, fault.Invalid)
	}
	c, err := blob.NewCloud([]string{"azblob://in?storage_account=x", "gs://in", "gs://more"})
	if err != nil || fmt.Sprint(c.Schemes()) != "[gs azblob]" {
		t.Errorf("%v, %v", c.Schemes(), err)
	}
	for _, at := range []string{"gs://other/x", "azblob://more/x"} {
		_, err := c.Bucket(t.Context(), location(t, at), blob.Access{})
		wantKind(t, at, err, fault.Forbidden)
	}
	memory := blob.NewMemoryCloud(t, "gs://in/")
	b, err := memory.Bucket(t.Context(), location(t, "gs://in/"), blob.Access{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = read(t, b, "nobody", blob.Read{})
	wantKind(t, "an absent object", err, fault.NotFound)
	_, err = read(t, b, "nobody", blob.Read{Size: 9})
	wantKind(t, "an absent object of known size", err, fault.NotFound)
}

func FuzzParse(f *testing.F) {
	f.Add("s3://bucket/key")
	f.Add("file:///x")
	f.Fuzz(func(t *testing.T, uri string) {
		at, err := blob.Parse(uri)
		if err != nil {
			return
		}
		again, err := blob.Parse(at.String())
		if err != nil && len(uri) < 1000 || err == nil && again != at {
			t.Errorf("%q is %+v, and %q is %+v, %v", uri, at, at.String(), again, err)
		}
	})
}
