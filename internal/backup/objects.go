package backup

import (
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/blob"
)

// objects is a shelf in a bucket. Objects are there whole or not at all; parts of
// an upload that a crash cut short are the bucket's to remove (a lifecycle rule).
type objects struct {
	bucket blob.Bucket
	prefix string
	there  map[string]bool // names in filesFolder, once listed: a Store is for one work
}

// smallPatience bounds what does not move the content of files.
const smallPatience = 5 * time.Minute

func (o *objects) has(name string) (bool, error) {
	if o.there == nil {
		names, err := o.list(filesFolder)
		if err != nil {
			return false, err
		}
		o.there = map[string]bool{}
		for _, one := range names {
			o.there[filesFolder+"/"+one] = true
		}
	}
	return o.there[name], nil
}

func (o *objects) keep(ctx context.Context, name string, size int64, content io.Reader) error {
	w, err := o.bucket.Create(ctx, o.prefix+name)
	if err != nil {
		return err
	}
	n, err := io.Copy(w, content)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return errors.Join(err, w.Abort())
	}
	if err := w.Commit(); err != nil {
		return err
	}
	if o.there != nil {
		o.there[name] = true
	}
	return nil
}

func (o *objects) list(folder string) (names []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), smallPatience)
	defer cancel()
	under := o.prefix
	if folder != "" {
		under += folder + "/"
	}
	for object, err := range o.bucket.List(ctx, under) {
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimPrefix(object.Key, under))
	}
	return names, nil
}

func (o *objects) open(name string) (io.ReadCloser, error) {
	return o.bucket.Open(context.Background(), o.prefix+name, blob.Read{})
}

func (o *objects) remove(name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), smallPatience)
	defer cancel()
	delete(o.there, name)
	return o.bucket.Delete(ctx, o.prefix+name)
}

// tidy: a bucket shows nothing that is not whole.
func (o *objects) tidy(string) error { return nil }

func (o *objects) clear(folder string) error {
	names, err := o.list(folder)
	if folder != "" {
		folder += "/"
	}
	for _, name := range names {
		err = errors.Join(err, o.remove(folder+name))
	}
	return err
}
