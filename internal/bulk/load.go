// Package bulk loads many resources at once through a store's bulk door.
//
//	Stream (NDJSON) → lines → parsed, stored, extracted → store.Part, with a cursor
//
// Every stream is an ordered part of one import; the cursor that is kept with
// each batch is the number of lines behind it, so that a load that was cut off
// goes on at the first line that is not durable, with nothing double and
// nothing lost.
package bulk

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Stream is one source of NDJSON: a resource on each line, with resourceType
// and id.
type Stream struct {
	Name      string // unique in the load, stable over restarts
	Resources int64  // lines, for progress; 0: unknown
	Open      func(ctx context.Context) (io.ReadCloser, error)
}

// Extractor turns a resource into its index entries.
type Extractor interface {
	Extract(key plan.Key, root fhir.Node) ([]plan.Entry, error)
}

// Types finds resource types by name.
type Types interface {
	Type(name string) (plan.Type, bool)
}

// Loader loads streams into one store.
type Loader struct {
	Store     store.Store
	Types     Types
	Extractor Extractor
	Workers   int // streams side by side, at least 1
	// Progress is told of durable and pending resources, from many goroutines.
	Progress func(done, total int64)
}

// Bounds of a load: the longest line in bytes (HealthLake's for a Binary in an
// import), and how many resources go to the store at a time.
const (
	MaxLine = 164 << 20
	batch   = 500

	// readerSize is the reader's buffer, which most lines fit in; keptRoom bounds the
	// room that is kept for those that do not.
	readerSize = 256 << 10
	keptRoom   = 4 << 20
)

// Tag marks versions that came by bulk load (see interaction's tags). Persisted.
const Tag byte = 16

// Load loads all streams as the import of this name, and forgets its cursors
// when everything is durable. Loading the same again before that goes on where
// it stood. A line that is no resource ends the load with fault.Invalid.
func (l *Loader) Load(ctx context.Context, name string, streams []Stream) error {
	importer, err := l.Store.Import(ctx, name)
	if err != nil {
		return err
	}
	progress := &progress{tell: l.Progress}
	for _, s := range streams {
		progress.total += s.Resources
	}
	group, ctx2 := errgroup.WithContext(ctx)
	group.SetLimit(max(1, l.Workers))
	for _, s := range streams {
		group.Go(func() error { return l.stream(ctx2, importer, s, progress) })
	}
	if err := group.Wait(); err != nil {
		return errors.Join(err, importer.Close(ctx))
	}
	if err := importer.Close(ctx); err != nil {
		return err
	}
	return importer.Forget(ctx)
}

type progress struct {
	done  atomic.Int64
	total int64
	tell  func(done, total int64)
}

func (p *progress) add(n int64) {
	done := p.done.Add(n)
	if p.tell != nil {
		p.tell(done, p.total)
	}
}

// stream loads one stream from its cursor on.
func (l *Loader) stream(ctx context.Context, importer store.Importer, s Stream, p *progress) error {
	part, err := importer.Part(ctx, s.Name)
	if err != nil {
		return err
	}
	in, err := s.Open(ctx)
	if err != nil {
		return fault.Wrap(fault.Internal, "bulk.stream", err)
	}
	defer in.Close()
	lines := bufio.NewReaderSize(in, readerSize)
	at := &place{stream: s.Name}
	if err := at.skip(lines, cursorLine(part.Cursor())); err != nil {
		return err
	}
	p.add(at.line)
	for {
		ops, err := l.read(lines, at)
		if err != nil {
			return err
		}
		if len(ops) == 0 {
			return part.Flush(ctx)
		}
		if err := part.Add(ctx, ops, binary.AppendUvarint(nil, uint64(at.line))); err != nil {
			return err
		}
		p.add(int64(len(ops)))
	}
}

func cursorLine(cursor []byte) int64 {
	n, _ := binary.Uvarint(cursor)
	return int64(n)
}

// place is how far a stream was read.
type place struct {
	stream string
	line   int64
	room   []byte // for a line that does not lie in one piece in the reader
}

func (at *place) skip(lines *bufio.Reader, n int64) error {
	for at.line < n {
		if _, err := at.next(lines); err != nil {
			return err
		}
	}
	return nil
}

// next reads a line, valid until the next call; io.EOF behind the last.
func (at *place) next(lines *bufio.Reader) ([]byte, error) {
	line, err := lines.ReadSlice('\n')
	if err == nil {
		at.line++
		return bytes.TrimSpace(line), nil
	}
	if cap(at.room) > keptRoom {
		at.room = nil
	}
	at.room = append(at.room[:0], line...)
	for {
		line = at.room
		switch {
		case len(line) > MaxLine:
			return nil, at.bad(fault.TooLarge, fmt.Errorf("the line is longer than %d bytes", MaxLine))
		case err == nil || err == io.EOF && len(line) > 0:
			at.line++
			return bytes.TrimSpace(line), nil
		case err == io.EOF:
			return nil, io.EOF
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, fault.Wrap(fault.Internal, "bulk.next", err)
		}
		line, err = lines.ReadSlice('\n')
		at.room = append(at.room, line...)
	}
}

func (at *place) bad(kind fault.Kind, cause error) error {
	return &fault.Error{Kind: kind, Op: "bulk.Load", Subject: fmt.Sprintf("%s, line %d", at.stream, at.line),
		Detail: fault.From(cause).Message(), Cause: cause}
}

// read makes the next batch of puts; none at the end.
func (l *Loader) read(lines *bufio.Reader, at *place) ([]store.Op, error) {
	ops := make([]store.Op, 0, batch)
	for len(ops) < batch {
		line, err := at.next(lines)
		if err == io.EOF {
			return ops, nil
		}
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			continue
		}
		op, err := l.put(line)
		if err != nil {
			return nil, at.bad(fault.From(err).Kind, err)
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// put makes the op that stores one line.
func (l *Loader) put(line []byte) (store.Op, error) {
	doc, err := fhir.Parse(line)
	if err != nil {
		return store.Op{}, err
	}
	defer doc.Release()
	t, known := l.Types.Type(doc.ResourceType())
	if !known {
		return store.Op{}, fault.New(fault.Invalid, "bulk.put", "no resourceType of R4")
	}
	key := plan.Key{Type: t, ID: doc.ID()}
	if !fhir.ValidID(key.ID) {
		return store.Op{}, fault.New(fault.Invalid, "bulk.put", "Missing required id field in resource json")
	}
	stored, err := fhir.Store(doc)
	if err != nil {
		return store.Op{}, err
	}
	entries, err := l.Extractor.Extract(key, doc.Root())
	if err != nil {
		return store.Op{}, err
	}
	return store.Op{Kind: store.Put, Key: key, Body: stored, Entries: entries, Tag: Tag}, nil
}
