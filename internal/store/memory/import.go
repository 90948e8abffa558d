package memory

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Import implements store.Store.
func (h *handle) Import(ctx context.Context, name string) (store.Importer, error) {
	if err := h.ready(ctx, "memory.Import"); err != nil {
		return nil, err
	}
	return &importer{store: h, name: name, parts: map[string]*part{}}, nil
}

// importer is one opening of an import.
type importer struct {
	store *handle
	name  string

	mu    sync.Mutex
	parts map[string]*part
}

// Part implements store.Importer.
func (im *importer) Part(ctx context.Context, name string) (store.Part, error) {
	if err := im.store.ready(ctx, "memory.Part"); err != nil {
		return nil, err
	}
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.parts[name] == nil {
		im.parts[name] = &part{of: im, name: name}
	}
	return im.parts[name], nil
}

// Close implements store.Importer: parts are flushed in the order of their
// names, so that the same import makes the same history.
func (im *importer) Close(ctx context.Context) error {
	im.mu.Lock()
	defer im.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(im.parts)) {
		if err := im.parts[name].Flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Forget implements store.Importer.
func (im *importer) Forget(ctx context.Context) error {
	if err := im.store.ready(ctx, "memory.Forget"); err != nil {
		return err
	}
	im.store.data.mu.Lock()
	defer im.store.data.mu.Unlock()
	delete(im.store.data.imports, im.name)
	return nil
}

// part is one stream of an import, with what was added since its last flush.
type part struct {
	of   *importer
	name string

	mu     sync.Mutex
	ops    []store.Op
	cursor []byte
}

// Cursor implements store.Part.
func (p *part) Cursor() []byte {
	d := p.of.store.data
	d.mu.RLock()
	defer d.mu.RUnlock()
	return bytes.Clone(d.imports[p.of.name][p.name])
}

// Add implements store.Part.
func (p *part) Add(ctx context.Context, ops []store.Op, cursor []byte) error {
	const op = "memory.Add"
	if err := p.of.store.ready(ctx, op); err != nil {
		return err
	}
	for _, o := range ops {
		if o.Kind != store.Put || len(o.If) > 0 {
			return fault.New(fault.Invalid, op, "an import takes unconditional puts only")
		}
		if err := store.CheckOp(op, &o); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ops, p.cursor = append(p.ops, ops...), cursor
	return nil
}

// Flush implements store.Part: what was added becomes one commit.
func (p *part) Flush(ctx context.Context) error {
	if err := p.of.store.ready(ctx, "memory.Flush"); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cursor == nil && len(p.ops) == 0 {
		return nil
	}
	d := p.of.store.data
	d.mu.Lock()
	defer d.mu.Unlock()
	d.apply(p.ops)
	if d.imports[p.of.name] == nil {
		d.imports[p.of.name] = map[string][]byte{}
	}
	d.imports[p.of.name][p.name] = bytes.Clone(p.cursor)
	p.ops, p.cursor = nil, nil
	return nil
}
