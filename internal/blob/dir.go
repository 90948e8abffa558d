package blob

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// Dir serves s3://bucket/key from folders below one folder, a folder a bucket:
// for a laptop and for tests. Roles need not exist, and keys are not used:
// whoever may start a job may use every bucket. Nothing outside the folder is
// reached, by no key and no symbolic link.
type Dir struct{ Root string }

// Bucket implements Storage. The bucket's folder must be there.
func (d Dir) Bucket(_ context.Context, at Location, _ Access) (Bucket, error) {
	if !fs.ValidPath(at.Bucket) || strings.ContainsAny(at.Bucket, `/\`) || strings.HasPrefix(at.Bucket, ".") {
		return nil, fault.New(fault.Invalid, "blob.Dir", "not the name of a bucket")
	}
	return folder{path: d.Root + "/" + at.Bucket}, nil
}

// Files serves file:///path/key below the folders that are allowed.
type Files struct{ Allowed []string } // absolute, clean paths

// Bucket implements Storage: the allowed folder that the location is in.
func (f Files) Bucket(_ context.Context, at Location, _ Access) (Bucket, error) {
	clean := path.Clean("/" + at.Key)
	for _, allowed := range f.Allowed {
		if clean == allowed || strings.HasPrefix(clean, strings.TrimSuffix(allowed, "/")+"/") {
			return folder{path: allowed, prefix: strings.Trim(allowed, "/") + "/"}, nil
		}
	}
	return nil, &fault.Error{Kind: fault.Forbidden, Op: "blob.Files", Subject: "file://",
		Detail: "the folder is not one that the configuration allows"}
}

// folder is a Bucket over a folder. Keys begin with prefix, which is not part of
// the paths in the folder.
type folder struct{ path, prefix string }

// partial marks files that are being written: ".name" + partial. They are not
// listed. What a crash leaves of one goes when its object is written again.
const partial = ".tarn-partial"

// open opens the folder; everything happens below it.
func (f folder) open() (*os.Root, error) {
	root, err := os.OpenRoot(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &fault.Error{Kind: fault.NotFound, Op: "blob.Dir", Detail: "the bucket does not exist", Cause: err}
	}
	return root, fileFault(err)
}

// name is the path of a key in the folder.
func (f folder) name(key string) (string, error) {
	name, within := strings.CutPrefix(key, f.prefix)
	if !within || !fs.ValidPath(name) || name == "." {
		return "", &fault.Error{Kind: fault.Invalid, Op: "blob.Dir", Subject: key, Detail: "not a key that a folder can hold"}
	}
	return name, nil
}

// Check implements Bucket.
func (f folder) Check(context.Context) error {
	root, err := f.open()
	if err != nil {
		return err
	}
	return fileFault(root.Close())
}

// List implements Bucket. The order is that of the keys, as far as a slash sorts
// like S3 sorts it: within each folder.
func (f folder) List(ctx context.Context, prefix string) iter.Seq2[Object, error] {
	return func(yield func(Object, error) bool) {
		root, err := f.open()
		if err != nil {
			yield(Object{}, err)
			return
		}
		defer root.Close() // it was only read
		walk := &listing{ctx: ctx, folder: f, prefix: prefix, yield: yield}
		err = fs.WalkDir(root.FS(), walk.start(), walk.visit)
		if err != nil && !errors.Is(err, fs.SkipAll) && !errors.Is(err, fs.ErrNotExist) {
			yield(Object{}, fileFault(err))
		}
	}
}

// listing is one List under way.
type listing struct {
	ctx    context.Context
	folder folder
	prefix string
	yield  func(Object, error) bool
}

// start is the deepest folder that holds all keys of the prefix.
func (l *listing) start() string {
	within, _ := strings.CutPrefix(l.prefix, l.folder.prefix)
	dir := strings.Trim(path.Dir(within+"x"), "/")
	if dir == "" || !fs.ValidPath(dir) {
		return "."
	}
	return dir
}

func (l *listing) visit(name string, entry fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if l.ctx.Err() != nil {
		return l.ctx.Err()
	}
	key := l.folder.prefix + name
	if entry.IsDir() {
		if name != "." && !strings.HasPrefix(key+"/", l.prefix) && !strings.HasPrefix(l.prefix, key+"/") {
			return fs.SkipDir
		}
		return nil
	}
	if !strings.HasPrefix(key, l.prefix) || strings.HasSuffix(entry.Name(), partial) || !entry.Type().IsRegular() {
		return nil
	}
	info, err := entry.Info()
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone since the folder was read
	}
	if err != nil {
		return err
	}
	if !l.yield(Object{Key: key, Size: info.Size(), Version: fileVersion(info)}, nil) {
		return fs.SkipAll
	}
	return nil
}

func fileVersion(info fs.FileInfo) string {
	return strconv.FormatInt(info.Size(), 16) + "-" + strconv.FormatInt(info.ModTime().UnixNano(), 16)
}

// Open implements Bucket.
func (f folder) Open(_ context.Context, key string, r Read) (io.ReadCloser, error) {
	name, err := f.name(key)
	if err != nil {
		return nil, err
	}
	root, err := f.open()
	if err != nil {
		return nil, err
	}
	defer root.Close() // files opened below it stay open
	file, err := root.Open(name)
	if err != nil {
		return nil, fileFault(err)
	}
	if err := ready(file, r); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// ready holds a file against what was asked for and goes to its place.
func ready(file *os.File, r Read) error {
	info, err := file.Stat()
	if err != nil {
		return fileFault(err)
	}
	if !info.Mode().IsRegular() {
		return &fault.Error{Kind: fault.NotFound, Op: "blob.Open", Detail: "the object does not exist"}
	}
	if r.Version != "" && r.Version != fileVersion(info) {
		return changed()
	}
	_, err = file.Seek(r.Offset, io.SeekStart)
	return fileFault(err)
}

func changed() error {
	return &fault.Error{Kind: fault.Conflict, Op: "blob.Open", Detail: "the object was changed since it was listed"}
}

// Create implements Bucket.
func (f folder) Create(_ context.Context, key string) (Writer, error) {
	name, err := f.name(key)
	if err != nil {
		return nil, err
	}
	root, err := f.open()
	if err != nil {
		return nil, err
	}
	w := &fileWriter{root: root, name: name}
	dir := path.Dir(name)
	w.temporary = path.Join(dir, "."+path.Base(name)+partial)
	err = root.MkdirAll(dir, 0o700)
	if err == nil {
		// Of two writers of one key, the older one's content never mixes with the
		// newer one's: it has no name any more.
		if err = root.Remove(w.temporary); err == nil || errors.Is(err, fs.ErrNotExist) {
			w.file, err = root.OpenFile(w.temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		}
	}
	if err != nil {
		return nil, errors.Join(fileFault(err), root.Close())
	}
	return w, nil
}

// fileWriter writes beside the object's place, and renames.
type fileWriter struct {
	root            *os.Root
	file            *os.File
	name, temporary string
	done            bool
}

// Write implements io.Writer.
func (w *fileWriter) Write(b []byte) (int, error) {
	n, err := w.file.Write(b)
	return n, fileFault(err)
}

// Commit implements Writer.
func (w *fileWriter) Commit() error {
	if w.done {
		return nil
	}
	err := w.file.Sync()
	if err == nil {
		err = w.root.Rename(w.temporary, w.name)
	}
	if err != nil {
		return errors.Join(fileFault(err), w.Abort())
	}
	w.done = true
	return fileFault(errors.Join(w.file.Close(), w.syncFolders(), w.root.Close()))
}

// syncFolders makes the rename last, and the folders that were made on the way.
func (w *fileWriter) syncFolders() error {
	for dir := path.Dir(w.name); ; dir = path.Dir(dir) {
		opened, err := w.root.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(opened.Sync(), opened.Close()); err != nil {
			return err
		}
		if dir == "." {
			return nil
		}
	}
}

// Abort implements Writer.
func (w *fileWriter) Abort() error {
	if w.done {
		return nil
	}
	w.done = true
	return fileFault(errors.Join(w.file.Close(), w.root.Remove(w.temporary), w.root.Close()))
}

// Delete implements Bucket.
func (f folder) Delete(_ context.Context, key string) error {
	name, err := f.name(key)
	if err != nil {
		return err
	}
	root, err := f.open()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fileFault(err)
	}
	return nil
}

// fileFault gives an error of the file system its kind.
func fileFault(err error) error {
	if err == nil {
		return nil
	}
	e := &fault.Error{Kind: fault.Internal, Op: "blob", Cause: err}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Kind, e.Detail = fault.NotFound, "the object does not exist"
	case errors.Is(err, fs.ErrPermission):
		e.Kind, e.Detail = fault.Forbidden, "the server's user has no right to it"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Kind, e.Detail = fault.Full, "no space left for the object"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		e.Kind = fault.Canceled
	case errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR):
		e.Kind, e.Detail = fault.Invalid, "not a key that a folder can hold"
	}
	return e
}
