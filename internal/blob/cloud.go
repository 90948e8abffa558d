package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"sync"

	cloud "gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/gcsblob"   // gs://
	"gocloud.dev/gcerrors"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Cloud serves the buckets of Google Cloud Storage (gs://) and the containers of
// Azure Blob Storage (azblob://) that the configuration allows, through
// gocloud.dev/blob. Credentials are those libraries' own: Google's Application
// Default Credentials, Azure's AZURE_STORAGE_… variables or its default
// credential. A job's role and key are recorded, not used: objects are sealed as
// the bucket says.
//
// An object's version is its size, its time and, where the storage keeps one, its
// MD5: what is read was that version when its reading began.
type Cloud struct {
	allowed map[string]string // "gs://bucket" → the URL that opens it

	mu   sync.Mutex
	open map[string]*cloud.Bucket
}

// NewCloud allows buckets, each by a URL of gocloud.dev: "gs://bucket",
// "azblob://container?storage_account=name".
func NewCloud(buckets []string) (*Cloud, error) {
	c := &Cloud{allowed: map[string]string{}, open: map[string]*cloud.Bucket{}}
	for _, text := range buckets {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "gs" && u.Scheme != "azblob" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
			return nil, &fault.Error{Kind: fault.Invalid, Op: "blob.NewCloud", Subject: text, Detail: "not a bucket",
				Hint: "use gs://bucket or azblob://container?storage_account=name"}
		}
		c.allowed[u.Scheme+"://"+u.Host] = text
	}
	return c, nil
}

// Schemes are those of the allowed buckets.
func (c *Cloud) Schemes() []string {
	var found []string
	for _, scheme := range []string{"gs", "azblob"} {
		for bucket := range c.allowed {
			if strings.HasPrefix(bucket, scheme+"://") {
				found = append(found, scheme)
				break
			}
		}
	}
	return found
}

// Bucket implements Storage.
func (c *Cloud) Bucket(ctx context.Context, at Location, _ Access) (Bucket, error) {
	name := at.Scheme + "://" + at.Bucket
	text, ok := c.allowed[name]
	if !ok {
		return nil, &fault.Error{Kind: fault.Forbidden, Op: "blob.Cloud", Subject: name, Detail: "the bucket is not one that the configuration allows"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.open[name]; b != nil {
		return cloudBucket{b}, nil
	}
	b, err := cloud.OpenBucket(context.WithoutCancel(ctx), text)
	if err != nil {
		return nil, cloudFault("blob.Cloud", "the bucket", err)
	}
	c.open[name] = b
	return cloudBucket{b}, nil
}

// cloudBucket is a Bucket of a cloud.
type cloudBucket struct{ *cloud.Bucket }

// Check implements Bucket.
func (b cloudBucket) Check(ctx context.Context) error {
	there, err := b.IsAccessible(ctx)
	if err == nil && !there {
		return &fault.Error{Kind: fault.NotFound, Op: "blob.Check", Detail: "the bucket does not exist"}
	}
	return cloudFault("blob.Check", "the bucket", err)
}

// List implements Bucket.
func (b cloudBucket) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		objects := b.Bucket.List(&cloud.ListOptions{Prefix: prefix})
		for {
			o, err := objects.Next(ctx)
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Object{}, cloudFault("blob.List", "the bucket", err))
				return
			}
			if o.IsDir || strings.HasSuffix(o.Key, "/") {
				continue
			}
			if !yield(Object{Key: o.Key, Size: o.Size, Version: cloudVersion(o.Size, o.ModTime.UnixMilli(), o.MD5)}, nil) {
				return
			}
		}
	}
}

func cloudVersion(size, millis int64, sum []byte) string {
	return strconv.FormatInt(size, 16) + "-" + strconv.FormatInt(millis, 16) + "-" + hex.EncodeToString(sum)
}

// Open implements Bucket.
func (b cloudBucket) Open(ctx context.Context, key string, r Read) (io.ReadCloser, error) {
	if r.Version != "" || r.Size > 0 {
		is, err := b.Attributes(ctx, key)
		if err != nil {
			return nil, cloudFault("blob.Open", "the object", err)
		}
		if r.Version != "" && r.Version != cloudVersion(is.Size, is.ModTime.UnixMilli(), is.MD5) {
			return nil, changed()
		}
	}
	if r.Size > 0 {
		return newParallel(ctx, r, func(ctx context.Context, from, to int64) ([]byte, error) {
			return b.piece(ctx, key, from, to)
		}), nil
	}
	in, err := b.NewRangeReader(ctx, key, r.Offset, -1, nil)
	if err != nil {
		return nil, cloudFault("blob.Open", "the object", err)
	}
	return cloudBody{in}, nil
}

// piece reads some bytes of an object.
func (b cloudBucket) piece(ctx context.Context, key string, from, to int64) ([]byte, error) {
	in, err := b.NewRangeReader(ctx, key, from, to-from, nil)
	if err != nil {
		return nil, cloudFault("blob.Open", "the object", err)
	}
	data := make([]byte, to-from)
	_, err = io.ReadFull(in, data)
	return data, cloudFault("blob.Read", "the object", errors.Join(err, in.Close()))
}

// cloudBody gives errors of reading their kinds.
type cloudBody struct{ *cloud.Reader }

// Read implements io.Reader.
func (b cloudBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != io.EOF { //nolint:errorlint // the object's end, not one that is cut off
		err = cloudFault("blob.Read", "the object", err)
	}
	return n, err
}

// Create implements Bucket.
func (b cloudBucket) Create(ctx context.Context, key string) (Writer, error) {
	ctx, cancel := context.WithCancel(ctx)
	w, err := b.NewWriter(ctx, key, &cloud.WriterOptions{ContentType: "application/octet-stream", BufferSize: partBytes})
	if err != nil {
		cancel()
		return nil, cloudFault("blob.Create", "the bucket", err)
	}
	return &cloudWriter{Writer: w, cancel: cancel}, nil
}

// cloudWriter writes one object, which is there once it is closed.
type cloudWriter struct {
	*cloud.Writer
	cancel context.CancelFunc
	done   bool
}

// Write implements io.Writer.
func (w *cloudWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	return n, cloudFault("blob.Write", "the bucket", err)
}

// Commit implements Writer.
func (w *cloudWriter) Commit() error {
	if w.done {
		return nil
	}
	w.done = true
	defer w.cancel()
	return cloudFault("blob.Commit", "the bucket", w.Close())
}

// Abort implements Writer: an upload whose context ended makes no object.
func (w *cloudWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	w.cancel()
	_ = w.Close() // says that it was canceled
	return nil
}

// Delete implements Bucket.
func (b cloudBucket) Delete(ctx context.Context, key string) error {
	err := b.Bucket.Delete(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil
	}
	return cloudFault("blob.Delete", "the object", err)
}

// cloudFault gives an error of a cloud its kind; what is not known may pass.
func cloudFault(op, what string, err error) error {
	if err == nil {
		return nil
	}
	e := &fault.Error{Kind: fault.Unavailable, Op: op, Detail: "the storage does not answer", Cause: err}
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		e.Kind, e.Detail = fault.NotFound, what+" does not exist"
	case gcerrors.PermissionDenied:
		e.Kind, e.Detail = fault.Forbidden, "the server's credentials do not suffice"
	case gcerrors.FailedPrecondition:
		return changed()
	case gcerrors.InvalidArgument:
		e.Kind, e.Detail = fault.Invalid, "the storage refuses the name"
	case gcerrors.DeadlineExceeded:
		e.Kind = fault.Timeout
	case gcerrors.Canceled:
		e.Kind, e.Detail = fault.Canceled, ""
	}
	return e
}
