package lsm

import (
	"io"

	"github.com/cockroachdb/pebble/v2"
)

// merger makes one container of the containers merged into a key: their union.
// Which comes first does not matter.
func merger() *pebble.Merger {
	return &pebble.Merger{
		Name: schemaName,
		Merge: func(_, value []byte) (pebble.ValueMerger, error) {
			m := new(unionMerger)
			return m, m.merge(value)
		},
	}
}

type unionMerger struct{ gather }

func (m *unionMerger) MergeNewer(value []byte) error { return m.merge(value) }
func (m *unionMerger) MergeOlder(value []byte) error { return m.merge(value) }

func (m *unionMerger) Finish(bool) ([]byte, io.Closer, error) { return m.encode(), nil, nil }
