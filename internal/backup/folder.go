package backup

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// folder is a shelf in the file system.
type folder string

// unfinished ends a file that is not whole yet.
const unfinished = ".part"

func (f folder) path(name string) string { return filepath.Join(string(f), filepath.FromSlash(name)) }

func (f folder) has(name string) (bool, error) {
	_, err := os.Stat(f.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (f folder) keep(ctx context.Context, name string, size int64, content io.Reader) error {
	target := f.path(name)
	if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
		return err
	}
	part, err := os.OpenFile(target+unfinished, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(part, content)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = part.Sync()
	}
	if err = errors.Join(err, part.Close(), ctx.Err()); err != nil {
		return err
	}
	if err := os.Rename(target+unfinished, target); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(target))
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (f folder) list(in string) (names []string, err error) {
	entries, err := os.ReadDir(f.path(in))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), unfinished) {
			names = append(names, e.Name())
		}
	}
	return names, err
}

func (f folder) open(name string) (io.ReadCloser, error) { return os.Open(f.path(name)) }

func (f folder) remove(name string) error { return os.Remove(f.path(name)) }

func (f folder) tidy(in string) error {
	left, err := filepath.Glob(f.path(in) + "/*" + unfinished)
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}

func (f folder) clear(in string) error { return os.RemoveAll(f.path(in)) }
