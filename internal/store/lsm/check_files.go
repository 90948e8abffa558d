package lsm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/sstable"
)

// tableSuffix ends the names of Pebble's tables.
const tableSuffix = ".sst"

// checkFiles opens every file of the database under the store's key and reads
// every block of every table. Tables that are still being written, or that a
// compaction removes meanwhile, are no problem.
func (c *checker) checkFiles() error {
	s := c.store
	live, err := s.liveTables()
	if err != nil {
		return err
	}
	names, err := s.sealed.List(s.dir.join(databaseName))
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return strings.HasSuffix(name, tableSuffix) && !live[name] })
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

// liveTables are the names of the tables that the database reads.
func (s *Store) liveTables() (map[string]bool, error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, err
	}
	live := map[string]bool{}
	for _, level := range levels {
		for _, table := range level {
			live[fmt.Sprintf("%06d%s", uint64(table.BackingSSTNum), tableSuffix)] = true
		}
	}
	return live, nil
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
