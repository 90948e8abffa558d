package storetest

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

// The twin with a power that fails: everything durable is written to a tape,
// and a crash plays the tape to a new twin. It examines the crash tests.
func TestCrashesOfTheTwin(t *testing.T) {
	Run(t, taped(func(tape []taken) []taken { return tape }),
		Exception{Test: "differential", Reason: "the twin is its own twin"},
		Exception{Test: "examples", Reason: "the twin has passed them"})
}

// taken is one piece of a tape: something durable.
type taken struct {
	create, drop bool
	id           store.ID
	key          seal.DataKey
	ops          []store.Op
	imp, part    string // where ops were added, for an import
	cursor       []byte
}

// tapeEngine is a twin that writes a tape.
type tapeEngine struct {
	store.Engine
	clock func() time.Time
	lose  func([]taken) []taken // what a crash does to the tape

	mu   sync.Mutex
	tape []taken
}

// taped opens twins that write tapes.
func taped(lose func([]taken) []taken) Opener {
	return func(t testing.TB, clock func() time.Time) (store.Engine, func() store.Engine) {
		e := &tapeEngine{Engine: seeded(clock), clock: clock, lose: lose}
		return e, func() store.Engine { return e }
	}
}

// seeded is a twin whose first hash keys are always the same.
func seeded(clock func() time.Time) store.Engine {
	return memory.New(memory.Options{Clock: clock, Rand: bytesOf{rand.New(rand.NewPCG(1, 1))}})
}

// record does something and writes it down, if it succeeds.
func (e *tapeEngine) record(piece taken, do func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	err := do()
	if err == nil {
		e.tape = append(e.tape, piece)
	}
	return err
}

func (e *tapeEngine) Create(ctx context.Context, id store.ID, key seal.DataKey) error {
	return e.record(taken{create: true, id: id, key: key}, func() error { return e.Engine.Create(ctx, id, key) })
}

func (e *tapeEngine) Drop(ctx context.Context, id store.ID) error {
	return e.record(taken{drop: true, id: id}, func() error { return e.Engine.Drop(ctx, id) })
}

func (e *tapeEngine) Open(ctx context.Context, id store.ID, key seal.DataKey) (store.Store, error) {
	s, err := e.Engine.Open(ctx, id, key)
	if err != nil {
		return nil, err
	}
	commit := func(ctx context.Context, ops []store.Op) (outcomes []store.Outcome, err error) {
		err = e.record(taken{id: id, key: key, ops: ops}, func() error {
			outcomes, err = s.Commit(ctx, ops)
			return err
		})
		return outcomes, err
	}
	imports := func(ctx context.Context, name string) (store.Importer, error) {
		im, err := s.Import(ctx, name)
		return &tapeImporter{Importer: im, engine: e, piece: taken{id: id, key: key, imp: name}, parts: map[string]*tapePart{}}, err
	}
	return &mutantStore{Store: s, commit: commit, imp: imports}, nil
}

// Crash implements Crasher.
func (e *tapeEngine) Crash(t testing.TB) store.Engine {
	e.mu.Lock()
	defer e.mu.Unlock()
	crashed := &tapeEngine{Engine: seeded(e.clock), clock: e.clock, lose: e.lose}
	for _, piece := range e.lose(slices.Clone(e.tape)) {
		mustNot(t, "playing the tape", piece.play(t, crashed))
	}
	return crashed
}

func (p taken) play(t testing.TB, engine store.Engine) error {
	ctx := testContext(t)
	switch {
	case p.create:
		return engine.Create(ctx, p.id, p.key)
	case p.drop:
		return engine.Drop(ctx, p.id)
	}
	s, err := engine.Open(ctx, p.id, p.key)
	if err != nil {
		return err
	}
	defer s.Close()
	if p.imp == "" {
		_, err = s.Commit(ctx, p.ops)
		return err
	}
	im, err := s.Import(ctx, p.imp)
	if err != nil {
		return err
	}
	part, err := im.Part(ctx, p.part)
	if err != nil {
		return err
	}
	if err := part.Add(ctx, p.ops, p.cursor); err != nil {
		return err
	}
	return part.Flush(ctx)
}

type tapeImporter struct {
	store.Importer
	engine *tapeEngine
	piece  taken
	parts  map[string]*tapePart
}

func (im *tapeImporter) Part(ctx context.Context, name string) (store.Part, error) {
	if im.parts[name] == nil {
		part, err := im.Importer.Part(ctx, name)
		if err != nil {
			return nil, err
		}
		piece := im.piece
		piece.part = name
		im.parts[name] = &tapePart{Part: part, engine: im.engine, piece: piece}
	}
	return im.parts[name], nil
}

func (im *tapeImporter) Close(ctx context.Context) error {
	for _, part := range im.parts {
		if err := part.Flush(ctx); err != nil {
			return err
		}
	}
	return im.Importer.Close(ctx)
}

type tapePart struct {
	store.Part
	engine *tapeEngine
	piece  taken // with what was added since the last flush
}

func (p *tapePart) Add(ctx context.Context, ops []store.Op, cursor []byte) error {
	p.piece.ops, p.piece.cursor = append(p.piece.ops, ops...), cursor
	return p.Part.Add(ctx, ops, cursor)
}

func (p *tapePart) Flush(ctx context.Context) error {
	piece := p.piece
	p.piece.ops, p.piece.cursor = nil, nil
	return p.engine.record(piece, func() error { return p.Part.Flush(ctx) })
}

// The ways to lose something in a crash.

func loseLast(tape []taken) []taken { return tape[:len(tape)-1] }

func halveLast(tape []taken) []taken {
	last := &tape[len(tape)-1]
	last.ops = last.ops[:len(last.ops)/2]
	return tape
}

func loseFlush(tape []taken) []taken {
	i := slices.IndexFunc(tape, func(p taken) bool { return p.imp != "" })
	if i < 0 {
		return tape
	}
	return tape[:i]
}

func loseCursor(tape []taken) []taken {
	for i := range tape {
		if tape[i].imp != "" {
			tape[i].cursor = []byte{0}
		}
	}
	return tape
}

// loseCreate makes a store that nobody asked for, and so takes another's key.
func loseCreate(tape []taken) []taken {
	other := tape[0]
	other.id = "other"
	return append([]taken{other}, tape...)
}
