//go:build unix

package lsm_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// A small store that is closed takes little of the disk: Pebble would have
// reserved a memtable's size for its log.
func TestClosedStoreIsSmall(t *testing.T) {
	const most = 256 << 10
	root := t.TempDir()
	s := made(t, engine(t, lsm.Options{Root: root}))
	commit(t, s, put(patient("a"), "{}", name("a")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var taken int64
	err := filepath.WalkDir(root, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			taken += info.Sys().(*syscall.Stat_t).Blocks * 512 // of 512 bytes always, whatever the file system's are
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if taken > most {
		t.Errorf("a store of one resource takes %d bytes of the disk", taken)
	}
}
