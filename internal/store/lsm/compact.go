package lsm

import (
	"context"

	"github.com/tarn-fhir/tarn/internal/store"
)

var _ store.Compacter = (*Store)(nil)

// Compact implements store.Compacter.
func (s *Store) Compact(ctx context.Context) error {
	const op = "lsm.Compact"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return err
	}
	defer leave()
	return s.compact(ctx, op)
}

// compact makes sheets of loose facts, writes what is in memory into tables and
// puts all tables together.
func (s *Store) compact(ctx context.Context, op string) error {
	if err := s.sealFacts(ctx); err != nil {
		return err
	}
	ctx, stop := s.whilePossible(ctx)
	defer stop()
	err := s.flush(ctx, nil)
	if err == nil {
		err = s.db.Compact(ctx, []byte{0}, []byte{0xff}, true)
	}
	return interruption(ctx, op, err)
}
