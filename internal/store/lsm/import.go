package lsm

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// A part of an import is committed when so much of it waits, or at Flush.
const (
	// importOps bounds the puts of a commit: the more, the fewer tables have to be
	// compacted later.
	importOps = 1 << 14
	// importBytes bounds bodies and facts, packed.
	importBytes = 24 << 20
)

// maxNameLen bounds the names of imports and parts: they are part of a key.
const maxNameLen = 1024

// Import implements store.Store.
func (s *Store) Import(ctx context.Context, name string) (store.Importer, error) {
	const op = "lsm.Import"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return nil, err
	}
	defer leave()
	if len(name) > maxNameLen || bytes.IndexByte([]byte(name), 0) >= 0 {
		return nil, fault.New(fault.Invalid, op, "not the name of an import")
	}
	return &importer{store: s, name: name, parts: map[string]*part{}}, nil
}

// importer is one opening of an import.
type importer struct {
	store *Store
	name  string

	mu    sync.Mutex
	parts map[string]*part
}

// Part implements store.Importer.
func (im *importer) Part(ctx context.Context, name string) (store.Part, error) {
	const op = "lsm.Part"
	leave, err := im.store.enter(ctx, op)
	if err != nil {
		return nil, err
	}
	defer leave()
	if len(name) > maxNameLen {
		return nil, fault.New(fault.Invalid, op, "not the name of a part")
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if p := im.parts[name]; p != nil {
		return p, nil
	}
	p := &part{of: im, key: cursorKey(im.name, name), piece: newPiece()}
	cursor, found, err := get(im.store.db, p.key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	if found {
		p.durable = cursorOf(cursor)
	}
	im.parts[name] = p
	return p, nil
}

// Close implements store.Importer.
func (im *importer) Close(ctx context.Context) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	var all error
	for _, name := range slices.Sorted(maps.Keys(im.parts)) {
		all = errors.Join(all, im.parts[name].Flush(ctx))
	}
	return all
}

// Forget implements store.Importer.
func (im *importer) Forget(ctx context.Context) error {
	const op = "lsm.Forget"
	leave, err := im.store.enter(ctx, op)
	if err != nil {
		return err
	}
	defer leave()
	im.mu.Lock()
	defer im.mu.Unlock()
	edits, err := im.forgetting()
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	if _, err := im.store.sequencer.submit(ctx, &request{imports: true, meta: edits}); err != nil {
		return err
	}
	for _, p := range im.parts {
		p.forget()
	}
	return nil
}

// forgetting lists the deletions of all cursors of this import.
func (im *importer) forgetting() (edits []metaEdit, err error) {
	prefix := cursorKey(im.name, "")
	it, err := im.store.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: plan.Successor(prefix)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.First(); it.Valid(); it.Next() {
		edits = append(edits, metaEdit{key: bytes.Clone(it.Key())})
	}
	return edits, it.Error()
}

// A cursor is kept behind one byte, so that an empty one differs from none.
const cursorForm = 1

func keptCursor(cursor []byte) []byte { return append([]byte{cursorForm}, cursor...) }

func cursorOf(kept []byte) []byte {
	if len(kept) == 0 {
		return nil
	}
	return kept[1:]
}

// part is one stream of an import, with what was added since its last commit.
// It implements store.Part.
type part struct {
	of  *importer
	key []byte

	mu     sync.Mutex // held while a commit of this part is under way
	piece  *piece
	cursor []byte
	added  bool // something since the last commit

	known   sync.Mutex // guards durable
	durable []byte
}

// Cursor implements store.Part.
func (p *part) Cursor() []byte {
	p.known.Lock()
	defer p.known.Unlock()
	return bytes.Clone(p.durable)
}

func (p *part) forget() {
	p.known.Lock()
	defer p.known.Unlock()
	p.durable = nil
}

// Add implements store.Part. What came before is committed when there is much.
func (p *part) Add(ctx context.Context, ops []store.Op, cursor []byte) error {
	const op = "lsm.Add"
	leave, err := p.of.store.enter(ctx, op)
	if err != nil {
		return err
	}
	defer leave()
	for i := range ops {
		if ops[i].Kind != store.Put || len(ops[i].If) > 0 {
			return fault.New(fault.Invalid, op, "an import takes unconditional puts only")
		}
		if err := store.CheckOp(op, &ops[i]); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.piece.changes); n > 0 && n+len(ops) > p.of.store.tuning.importOps || p.piece.bytes > importBytes {
		if err := p.commit(ctx); err != nil {
			return err
		}
		p.piece.reset()
	}
	for i := range ops {
		p.piece.add(p.of.store, &ops[i])
	}
	p.cursor, p.added = bytes.Clone(cursor), true
	return nil
}

// Flush implements store.Part.
func (p *part) Flush(ctx context.Context) error {
	leave, err := p.of.store.enter(ctx, "lsm.Flush")
	if err != nil {
		return err
	}
	defer leave()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.added {
		return nil
	}
	if err := p.commit(ctx); err != nil {
		return err
	}
	p.piece.release() // there may be no more
	p.piece = newPiece()
	return nil
}

// commit makes what was added one commit, with its cursor. The piece is not empty
// behind it, and nothing refers to it any more.
func (p *part) commit(ctx context.Context) error {
	r := &request{imports: true, meta: []metaEdit{{key: p.key, value: keptCursor(p.cursor)}}}
	if len(p.piece.changes) < p.of.store.tuning.ingestFrom {
		changes, err := p.piece.withPrefixes()
		if err != nil {
			return err
		}
		r.changes = changes
	} else {
		if err := p.piece.order(&p.of.store.tuning); err != nil {
			return err
		}
		r.piece = p.piece
	}
	// Whether it was carried out must be known here, or the same puts could be
	// made twice: what is on its way is waited for.
	if _, err := p.of.store.sequencer.submit(context.WithoutCancel(ctx), r); err != nil {
		return err
	}
	p.known.Lock()
	p.durable = p.cursor
	p.known.Unlock()
	p.cursor, p.added = nil, false
	return nil
}
