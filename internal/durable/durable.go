// Package durable writes small files that must not be lost or half there: one
// temporary file beside the path, synced, renamed over it, its folder synced.
//
//	err := durable.Write(path, content)
//
// A crash within Write can leave the temporary file, so a file that is rewritten to
// make part of it vanish, as a ring of keys is, is not for this package.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Write puts content in the place of what is at path, whole or not at all, for
// its owner alone to read and write (mode 0600). Once it returns nil the file
// survives a crash of the machine. The folder must be there.
func Write(path string, content []byte) error {
	folder := filepath.Dir(path)
	tmp, err := os.CreateTemp(folder, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return SyncFolder(folder)
}

// SyncFolder makes a rename in the folder last.
func SyncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
