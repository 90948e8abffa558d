package lsm

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// last is how far a store had come when it was closed: the number of its newest
// commit. A manifest or log that was cut short looks like one that a crash left, and
// Pebble opens what it tells of, without what came later, and removes the tables of
// that. So what is opened must reach as far, and nothing is removed before that is
// known (disk). LAST is a plain file:
//
//	12345 5f2c0a91        the number, and the CRC-32 (IEEE) of its digits
//
// One that is not there or not whole says nothing: stores of before have none, and a
// disk that is full takes none.
const (
	lastName    = "LAST"
	lastNewName = "LAST.new" // before it is renamed
)

func lastFile(commit uint64) []byte {
	digits := fmt.Sprint(commit)
	return fmt.Appendf(nil, "%s %08x\n", digits, crc32.ChecksumIEEE([]byte(digits)))
}

// last gives the number of the newest commit when the store was closed; 0: unknown.
func (d storeDir) last() (commit uint64, err error) {
	there, err := fileExists(d.fs, d.join(lastName))
	if !there || err != nil {
		return 0, err
	}
	text, err := readFile(d.fs, d.join(lastName))
	if err != nil {
		return 0, err
	}
	if _, err := fmt.Sscanf(string(text), "%d ", &commit); err != nil || !strings.EqualFold(string(text), string(lastFile(commit))) {
		return 0, nil //nolint:nilerr // not whole
	}
	return commit, nil
}

// writeLast keeps how far the store came.
func (d storeDir) writeLast(commit uint64) error {
	if err := writeFile(d.fs, d.join(lastNewName), lastFile(commit)); err != nil {
		return err
	}
	return d.fs.Rename(d.join(lastNewName), d.join(lastName))
}

// forgetLast is called before something is taken from the end of the store.
func (s *Store) forgetLast() error {
	s.shortened.Store(true)
	err := s.dir.fs.Remove(s.dir.join(lastName))
	if isNotExist(err) {
		return nil
	}
	return errors.Join(err, syncDir(s.dir.fs, s.dir.path))
}

// reaches refuses a store that ends before what it had when it was closed.
func (d storeDir) reaches(newest state) error {
	known, err := d.last()
	if err != nil || newest.commit >= known {
		return err
	}
	return &fault.Error{
		Kind: fault.Internal, Op: "lsm", Detail: fmt.Sprintf("stored data is damaged: the newest commit is number %d, and was %d when the store was closed: its manifest or log is cut short", newest.commit, known),
		Hint: "restore it from a backup, or remove the file " + lastName + " from the store's folder to go on without what is missing",
	}
}

// keepLast writes how far the store came, when it is closed.
func (s *Store) keepLast(at state) {
	if s.shortened.Load() || s.sequencer.broken != nil || s.disk.lost() != nil {
		return
	}
	known, err := s.dir.last()
	if err == nil && known != at.commit {
		err = s.dir.writeLast(at.commit)
	}
	if err != nil && !isFull(err) {
		s.log.Warn("how far the store came was not kept", "error", err)
	}
}
