package lsm

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// The exchange of a store's data key, while it is used:
//
//	Rekey    STORE is written again under the new key, with the keys of files of
//	         before in it and the key of the rows' MACs, and renamed over the old
//	         one. From that moment on the new key opens the store, and no other.
//	         New files are sealed under it.
//	Reseal   Files under keys of before are copied under the new one and renamed
//	         over the old ones, also the log and the manifest that are being
//	         written (seal.FS.Reseal), until none is left. Then STORE is written
//	         without those keys, which are gone.
//
// A crash leaves each file whole under one key, and STORE with what opens all.
var _ store.Rekeyer = (*Store)(nil)

// resealName is the folder for copies that are being written, and freshName the
// STORE file that is.
const (
	resealName = "reseal"
	freshName  = constantsName + ".new"
)

// clearReseal removes what a crash left.
func (s *Store) clearReseal() error { return s.dir.fs.RemoveAll(s.dir.join(resealName)) }

// Rekey implements store.Rekeyer.
func (s *Store) Rekey(ctx context.Context, key seal.DataKey) error {
	const op = "lsm.Rekey"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return err
	}
	defer leave()
	if !key.Usable() {
		return fault.New(fault.Invalid, op, "no data key, or a wiped one")
	}
	s.backups.Lock()
	defer s.backups.Unlock()
	_, err = s.dir.readConstants(key)
	switch {
	case fault.Is(err, fault.Forbidden):
		err = s.rekeyConstants(key)
	case err == nil: // it is the store's key already
		err = syncDir(s.dir.fs, s.dir.path)
	}
	if err != nil {
		return wrapDisk(op, err)
	}
	s.sealed.Rekey(key)
	return nil
}

// rekeyConstants writes STORE under another key, with the keys of files there are.
func (s *Store) rekeyConstants(key seal.DataKey) error {
	c := s.constants
	c.OlderKeys = nil
	for _, older := range s.sealed.FilesKeys() {
		c.OlderKeys = append(c.OlderKeys, older[:])
	}
	fresh := seal.NewFS(s.dir.fs, key)
	defer fresh.Wipe()
	return s.writeConstants(fresh, c)
}

// writeConstants puts a STORE file in the place of the one that is there. backups
// is held.
func (s *Store) writeConstants(under *seal.FS, c constants) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if err := writeFile(under, s.dir.join(freshName), text); err != nil {
		return err
	}
	if err := s.dir.fs.Rename(s.dir.join(freshName), s.dir.join(constantsName)); err != nil {
		return err
	}
	s.constants = c
	return syncDir(s.dir.fs, s.dir.path)
}

// Reseal implements store.Rekeyer.
func (s *Store) Reseal(ctx context.Context) error {
	const op = "lsm.Reseal"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return err
	}
	defer leave()
	s.resealing.Lock()
	defer s.resealing.Unlock()
	if len(s.sealed.FilesKeys()) == 1 {
		return nil
	}
	if err := makeDir(s.dir.fs, s.dir.join(resealName)); err != nil {
		return wrapDisk(op, err)
	}
	for done := 1; done > 0; {
		if done, err = s.resealFiles(ctx); err != nil {
			return wrapDisk(op, errors.Join(err, s.clearReseal()))
		}
	}
	// A backup under way has files under keys of before, and gives STORE last.
	s.backups.Lock()
	defer s.backups.Unlock()
	c := s.constants
	c.OlderKeys = nil
	if err := errors.Join(s.clearReseal(), s.writeConstants(s.sealed, c)); err != nil {
		return wrapDisk(op, err)
	}
	s.sealed.Forget()
	return nil
}

// resealFiles goes once through the files, and tells how many were sealed anew.
// Tables of an import are linked from the one folder into the other, so it is
// looked through first.
func (s *Store) resealFiles(ctx context.Context) (done int, err error) {
	for _, folder := range []string{ingestName, databaseName} {
		names, err := s.dir.fs.List(s.dir.join(folder))
		if isNotExist(err) {
			continue
		}
		if err != nil {
			return done, err
		}
		for _, name := range names {
			one, err := s.resealFile(ctx, s.dir.fs.PathJoin(s.dir.join(folder), name), s.dir.fs.PathJoin(s.dir.join(resealName), name))
			if err != nil {
				return done, err
			}
			if one {
				done++
			}
		}
	}
	return done, nil
}

func (s *Store) resealFile(ctx context.Context, name, beside string) (bool, error) {
	stop := func() error {
		if s.closing.Load() {
			return storeClosed("lsm.Reseal")
		}
		return ended(ctx, "lsm.Reseal")
	}
	if err := stop(); err != nil {
		return false, err
	}
	if older, err := s.sealed.Outdated(name); err != nil || !older {
		if isNotExist(err) {
			err = nil // removed since it was listed
		}
		return false, err
	}
	if err := s.sequencer.floor.room(name); err != nil {
		return false, err
	}
	return s.sealed.Reseal(name, beside, stop)
}
