package export

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/durable"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

// Folder is a blob.Bucket for the files of one export that the server itself
// hands out, sealed under a key of their own.
type Folder struct {
	Path  string
	Files *seal.FS
}

var _ blob.Bucket = Folder{}

// unfinished ends the names of files that are being written.
const unfinished = ".part"

func (f Folder) name(key string) (string, error) {
	if key == "" || strings.ContainsAny(key, `/\`) || strings.HasPrefix(key, ".") || strings.HasSuffix(key, unfinished) {
		return "", &fault.Error{Kind: fault.NotFound, Op: "export.Folder", Subject: "file", Detail: "no such file"}
	}
	return filepath.Join(f.Path, key), nil
}

// Check implements blob.Bucket.
func (f Folder) Check(context.Context) error { return nil }

// List implements blob.Bucket.
func (f Folder) List(_ context.Context, prefix string) iter.Seq2[blob.Object, error] {
	return func(yield func(blob.Object, error) bool) {
		found, err := os.ReadDir(f.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			yield(blob.Object{}, fault.Wrap(fault.Internal, "export.List", err))
			return
		}
		for _, entry := range found {
			if name := entry.Name(); strings.HasPrefix(name, prefix) && !strings.HasSuffix(name, unfinished) && !yield(blob.Object{Key: name}, nil) {
				return
			}
		}
	}
}

// ReadSeekCloser reads one file.
func (f Folder) ReadSeekCloser(key string) (io.ReadSeekCloser, error) {
	name, err := f.name(key)
	if err != nil {
		return nil, err
	}
	file, err := f.Files.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "export.Folder", Subject: "file", Detail: "no such file"}
	}
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "export.Folder", err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fault.Wrap(fault.Internal, "export.Folder", err), file.Close())
	}
	return opened{io.NewSectionReader(file, 0, info.Size()), file}, nil
}

type opened struct {
	*io.SectionReader
	io.Closer
}

// Open implements blob.Bucket.
func (f Folder) Open(_ context.Context, key string, r blob.Read) (io.ReadCloser, error) {
	file, err := f.ReadSeekCloser(key)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(r.Offset, io.SeekStart); err != nil {
		return nil, errors.Join(fault.Wrap(fault.Internal, "export.Folder", err), file.Close())
	}
	return file, nil
}

// Delete implements blob.Bucket.
func (f Folder) Delete(_ context.Context, key string) error {
	name, err := f.name(key)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.Wrap(fault.Internal, "export.Delete", err)
	}
	return nil
}

// Create implements blob.Bucket.
func (f Folder) Create(_ context.Context, key string) (blob.Writer, error) {
	name, err := f.name(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.Path, 0o700); err != nil {
		return nil, diskFault(err)
	}
	file, err := f.Files.Create(name+unfinished, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, diskFault(err)
	}
	return &sealedWriter{file: file, name: name}, nil
}

type sealedWriter struct {
	file vfs.File // nil once closed
	name string
}

func (w *sealedWriter) Write(p []byte) (int, error) {
	n, err := w.file.Write(p)
	return n, diskFault(err)
}

func (w *sealedWriter) Commit() error {
	err := w.file.Sync()
	err = errors.Join(err, w.file.Close())
	w.file = nil
	if err == nil {
		err = os.Rename(w.name+unfinished, w.name)
	}
	if err == nil {
		err = durable.SyncFolder(filepath.Dir(w.name))
	}
	return diskFault(err)
}

func (w *sealedWriter) Abort() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return diskFault(errors.Join(err, os.Remove(w.name+unfinished)))
}

// diskFault tells a full disk from other failures.
func diskFault(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &fault.Error{Kind: fault.Full, Op: "export.Folder", Detail: "the disk is full", Cause: err}
	}
	return fault.Wrap(fault.Internal, "export.Folder", err)
}
