package blob

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	transfertypes "github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// S3 serves s3://bucket/key from an S3-compatible server.
type S3 struct {
	// Client is the client that works for a role; fault.Forbidden for a role that
	// the configuration does not know.
	Client func(ctx context.Context, role string) (*s3.Client, error)
	// Seal asks the server to seal what is written under Access.KMSKey (SSE-KMS);
	// servers without a KMS refuse that.
	Seal bool
}

// How objects travel: a large one is read in pieces of pieceBytes, of which
// pieces are under way at once, and written in parts of partBytes, of which
// parts are (S3's least is 5 MiB, its most 10,000 parts: 80 GiB).
const (
	pieceBytes = 8 << 20
	pieces     = 4
	partBytes  = 8 << 20
	parts      = 2
)

// Bucket implements Storage.
func (s S3) Bucket(ctx context.Context, at Location, as Access) (Bucket, error) {
	client, err := s.Client(ctx, as.Role)
	if err != nil {
		return nil, err
	}
	b := &bucket{client: client, name: at.Bucket}
	if s.Seal {
		b.key = as.KMSKey
	}
	return b, nil
}

// bucket is a Bucket of S3.
type bucket struct {
	client *s3.Client
	name   string
	key    string // KMS key, empty for none
}

// Check implements Bucket.
func (b *bucket) Check(ctx context.Context) error {
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name})
	return s3Fault("blob.Check", "the bucket", err)
}

// List implements Bucket.
func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &prefix})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Object{}, s3Fault("blob.List", "the bucket", err))
				return
			}
			for _, found := range page.Contents {
				key := aws.ToString(found.Key)
				if strings.HasSuffix(key, "/") {
					continue
				}
				if !yield(Object{Key: key, Size: aws.ToInt64(found.Size), Version: aws.ToString(found.ETag)}, nil) {
					return
				}
			}
		}
	}
}

// Open implements Bucket.
func (b *bucket) Open(ctx context.Context, key string, r Read) (io.ReadCloser, error) {
	if r.Size > 0 {
		return newParallel(ctx, r, func(ctx context.Context, from, to int64) ([]byte, error) {
			return b.piece(ctx, key, r.Version, from, to)
		}), nil
	}
	in := b.get(key, r.Version)
	if r.Offset > 0 {
		in.Range = aws.String("bytes=" + strconv.FormatInt(r.Offset, 10) + "-")
	}
	out, err := b.client.GetObject(ctx, in)
	if status(err) == http.StatusRequestedRangeNotSatisfiable {
		return io.NopCloser(bytes.NewReader(nil)), nil // the offset is the end
	}
	if err != nil {
		return nil, s3Fault("blob.Open", "the object", err)
	}
	return &body{out.Body}, nil
}

func (b *bucket) get(key, version string) *s3.GetObjectInput {
	in := &s3.GetObjectInput{Bucket: &b.name, Key: &key}
	if version != "" {
		in.IfMatch = &version
	}
	return in
}

// pieceTries is how often one piece is fetched when its connection breaks off in
// the middle; the SDK's own retries end with the headers.
const pieceTries = 3

// pieceTimeout bounds one try at a piece: a server that sends 30 KB/s is as good
// as one that hangs.
const pieceTimeout = 5 * time.Minute

// piece reads the bytes from ≤ i < to.
func (b *bucket) piece(ctx context.Context, key, version string, from, to int64) (data []byte, err error) {
	for range pieceTries {
		if data, err = b.once(ctx, key, version, from, to); err == nil || !fault.Is(err, fault.Unavailable) {
			return data, err
		}
	}
	return data, err
}

func (b *bucket) once(ctx context.Context, key, version string, from, to int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pieceTimeout)
	defer cancel()
	in := b.get(key, version)
	in.Range = aws.String("bytes=" + strconv.FormatInt(from, 10) + "-" + strconv.FormatInt(to-1, 10))
	out, err := b.client.GetObject(ctx, in)
	if err != nil {
		return nil, s3Fault("blob.Open", "the object", err)
	}
	data := make([]byte, to-from)
	_, err = io.ReadFull(out.Body, data)
	return data, errors.Join(s3Fault("blob.Open", "the object", err), s3Fault("blob.Open", "the object", out.Body.Close()))
}

// body is an object's content; what breaks it off is the storage's fault.
type body struct{ io.ReadCloser }

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = s3Fault("blob.Read", "the object", err)
	}
	return n, err
}

// Create implements Bucket.
func (b *bucket) Create(ctx context.Context, key string) (Writer, error) {
	return &objectWriter{ctx: ctx, bucket: b, key: key}, nil
}

// objectWriter keeps a small object in memory until Commit; one that grows beyond
// a part goes out in parts as it is written.
type objectWriter struct {
	ctx    context.Context
	bucket *bucket
	key    string
	small  []byte

	pipe   *io.PipeWriter // nil while small
	result chan error
	done   bool
}

// Write implements io.Writer.
func (w *objectWriter) Write(p []byte) (int, error) {
	if w.pipe == nil && len(w.small)+len(p) <= partBytes {
		w.small = append(w.small, p...)
		return len(p), nil
	}
	if w.pipe == nil {
		w.begin()
	}
	n, err := w.pipe.Write(p)
	return n, s3Fault("blob.Write", "the object", err)
}

// begin starts the upload in parts.
func (w *objectWriter) begin() {
	var from *io.PipeReader
	from, w.pipe = io.Pipe()
	w.result = make(chan error, 1)
	content := io.MultiReader(bytes.NewReader(w.small), from)
	w.small = nil
	go func() {
		err := w.bucket.upload(w.ctx, w.key, content)
		from.CloseWithError(errors.Join(io.ErrClosedPipe, err))
		w.result <- err
	}()
}

func (b *bucket) upload(ctx context.Context, key string, content io.Reader) error {
	manager := transfermanager.New(b.client, func(o *transfermanager.Options) {
		o.PartSizeBytes, o.Concurrency = partBytes, parts
		o.FailTimeout = cleanTimeout
		o.RequestChecksumCalculation = b.client.Options().RequestChecksumCalculation
	})
	in := &transfermanager.UploadObjectInput{Bucket: &b.name, Key: &key, Body: content}
	if b.key != "" {
		in.ServerSideEncryption, in.SSEKMSKeyID = transfertypes.ServerSideEncryptionAwsKms, &b.key
	}
	_, err := manager.UploadObject(ctx, in)
	return s3Fault("blob.Write", "the object", err)
}

// Commit implements Writer.
func (w *objectWriter) Commit() error {
	if w.done {
		return nil
	}
	w.done = true
	if w.pipe != nil {
		w.pipe.Close() // of a pipe: never fails
		return <-w.result
	}
	in := &s3.PutObjectInput{Bucket: &w.bucket.name, Key: &w.key, Body: bytes.NewReader(w.small)}
	if w.bucket.key != "" {
		in.ServerSideEncryption, in.SSEKMSKeyId = types.ServerSideEncryptionAwsKms, &w.bucket.key
	}
	_, err := w.bucket.client.PutObject(w.ctx, in)
	return s3Fault("blob.Write", "the object", err)
}

// errAborted ends an upload that its writer gave up.
var errAborted = errors.New("blob: the writer gave up")

// Abort implements Writer.
func (w *objectWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	if w.pipe == nil {
		return nil
	}
	w.pipe.CloseWithError(errAborted)
	if err := <-w.result; !errors.Is(err, errAborted) {
		return err
	}
	return nil
}

// Delete implements Bucket.
func (b *bucket) Delete(ctx context.Context, key string) error {
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: &key})
	err = s3Fault("blob.Delete", "the object", err)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// status is the HTTP status of an answer that was an error, 0 for none.
func status(err error) int {
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return answer.HTTPStatusCode()
	}
	return 0
}

// s3Fault gives an error of the SDK its kind. What S3 says is for the log: it may
// name keys and accounts.
func s3Fault(op, what string, err error) error {
	if err == nil {
		return nil
	}
	if _, known := errors.AsType[*fault.Error](err); known {
		return err
	}
	e := &fault.Error{Kind: fault.Unavailable, Op: op, Detail: "the storage of " + what + " does not answer", Cause: err}
	answer, said := errors.AsType[smithy.APIError](err)
	switch {
	case errors.Is(err, errAborted), errors.Is(err, context.Canceled):
		e.Kind, e.Detail = fault.Canceled, ""
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Detail = fault.Timeout, ""
	case said:
		e.Kind, e.Detail = answered(answer.ErrorCode(), status(err), what)
	case isNetwork(err):
	case status(err) != 0:
		e.Kind, e.Detail = answered("", status(err), what)
	}
	return e
}

// answered judges what S3 answered, by its code, else by the status: a HEAD has no
// body to hold a code.
func answered(code string, status int, what string) (fault.Kind, string) {
	switch code {
	case "NoSuchBucket":
		return fault.NotFound, "the bucket does not exist"
	case "PreconditionFailed":
		return fault.Conflict, "the object was changed since it was listed"
	case "SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable":
		return fault.Unavailable, "the storage of " + what + " asks for patience"
	}
	switch {
	case strings.HasPrefix(code, "KMS.") || strings.HasPrefix(code, "kms:"):
		return fault.FailedDependency, "the KMS key of the job cannot be used by the storage"
	case status == http.StatusForbidden, status == http.StatusUnauthorized:
		return fault.Forbidden, "access to " + what + " was denied"
	case status == http.StatusNotFound:
		return fault.NotFound, what + " does not exist"
	case status == http.StatusPreconditionFailed:
		return fault.Conflict, "the object was changed since it was listed"
	case status >= http.StatusInternalServerError, status == http.StatusTooManyRequests, status == 0:
		return fault.Unavailable, "the storage of " + what + " does not answer"
	}
	return fault.FailedDependency, "the storage of " + what + " refused the request (" + code + ")"
}

func isNetwork(err error) bool {
	_, found := errors.AsType[net.Error](err)
	return found || errors.Is(err, io.ErrUnexpectedEOF)
}
