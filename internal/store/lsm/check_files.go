package lsm

import (
	"context"
	"errors"
	"strings"

	"github.com/cockroachdb/pebble/v2/sstable"
)

// tableSuffix ends the names of Pebble's tables.
const tableSuffix = ".sst"

// checkFiles opens every file of the database under the store's key and reads
// every block of every table. Files that a compaction removes meanwhile are no
// problem.
func (c *checker) checkFiles() error {
	s := c.store
	names, err := s.sealed.List(s.dir.join(databaseName))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := errors.Join(c.ctx.Err(), c.step()); err != nil {
			return err
		}
		err := s.checkFile(c.ctx, name)
		switch {
		case isNotExist(err):
			continue
		case err != nil:
			c.report.Add(partFile, "%s: %v", name, err)
		}
		c.report.Files++
	}
	return nil
}

func (s *Store) checkFile(ctx context.Context, name string) error {
	f, err := s.sealed.Open(s.sealed.PathJoin(s.dir.join(databaseName), name))
	if err != nil {
		return err
	}
	if !strings.HasSuffix(name, tableSuffix) {
		return f.Close()
	}
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, s.tables)
	if err != nil {
		return errors.Join(err, readable.Close())
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}
