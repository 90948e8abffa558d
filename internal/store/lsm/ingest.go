package lsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/sstable/block"
	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"

	"github.com/tarn-fhir/tarn/internal/search/plan"
)

// A piece of an import becomes one commit without the log: its keys are written
// as sorted tables, one for each span of keyspaces that grows in its own way,
// and Pebble takes all of them at once, with the cursor among them.
//
//	rows      01         at the end of its keyspace: written once more when it is settled
//	pointers  02 03
//	index     04 to 08
//	sheets    0a         at the end of its keyspace
//	meta      0f         the cursor
//
// Which of it is done when: ahead.go.

// ingestName is the folder for tables that are being written. What a crash
// leaves there is removed when the store is opened.
const ingestName = "ingest"

// ingester writes the tables of pieces.
type ingester struct {
	store *Store
	fs    vfs.FS // sealed
	dir   string
	opts  *pebble.Options // of the database
	made  bool            // dir is there; the sequencer's
	files atomic.Int64    // written so far, for their names
}

// makeDir makes the folder when it is not there.
func (in *ingester) makeDir() error {
	if in.made {
		return nil
	}
	err := in.fs.MkdirAll(in.dir, 0o700)
	in.made = err == nil
	return err
}

// clear removes what a crash left.
func (in *ingester) clear() error { return in.fs.RemoveAll(in.dir) }

// ingestion is one piece becoming tables.
type ingestion struct {
	*ingester
	piece  *piece
	meta   []metaEdit
	first  uint64 // row of the first put
	empty  bool   // there is nothing in the store that a put could follow
	number uint64 // of the commit
	now    int64  // its time

	versions []pointer     // of each put, without the times that the piece gives (version)
	current  []selfRow     // the newest version of each resource, by self
	past     []pastVersion // what is superseded, by self, newest first
	dead     map[uint32]*gather
	written  int64 // bytes
}

// selfRow is a put with the hash of its resource.
type selfRow struct {
	self plan.Hash
	row  int // of the piece
}

// pastVersion is a version that a put of the piece supersedes.
type pastVersion struct {
	self    plan.Hash
	version uint64
	rid, by uint64
}

// place finds what each put follows: a version in the store, or a put before it.
func (b *ingestion) place() (err error) {
	rows := b.piece.selves
	it, err := b.store.db.NewIter(&pebble.IterOptions{LowerBound: []byte{spacePointer}, UpperBound: []byte{spacePointer + 1}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	b.versions, b.dead = make([]pointer, len(rows)), map[uint32]*gather{}
	for begin := 0; begin < len(rows); {
		end := begin + 1
		for end < len(rows) && rows[end].self == rows[begin].self {
			end++
		}
		before, err := b.before(it, rows[begin].self)
		if err != nil {
			return err
		}
		b.placeVersions(before, rows[begin:end])
		begin = end
	}
	return nil
}

// before gives the version of a resource that is in the store. Asked in
// ascending order, it steps rather than seeks.
func (b *ingestion) before(it *pebble.Iterator, self plan.Hash) (pointer, error) {
	if b.empty {
		return pointer{}, nil
	}
	key := append([]byte{spacePointer}, self[:]...)
	if !it.SeekPrefixGE(key) || !bytes.Equal(it.Key(), key) {
		return pointer{}, it.Error()
	}
	value, err := it.ValueAndErr()
	if err != nil {
		return pointer{}, err
	}
	return parsePointer(value)
}

// placeVersions gives the puts of one resource their versions.
func (b *ingestion) placeVersions(last pointer, rows []selfRow) {
	past := len(b.past)
	for _, r := range rows {
		p := pointer{rid: b.first + uint64(r.row), version: 1, updated: unborn, created: unborn, found: true}
		if last.found {
			p.version, p.created = last.version+1, last.created
			b.past = append(b.past, pastVersion{r.self, last.version, last.rid, p.rid})
			if !last.deleted {
				gatherAt(b.dead, uint32(last.rid>>b.store.shift)).add(b.store.ord(last.rid))
			}
		}
		b.versions[r.row], last = p, p
	}
	slices.Reverse(b.past[past:])
	b.current = append(b.current, rows[len(rows)-1])
}

// version is that of a put, dated.
func (b *ingestion) version(put int) pointer {
	v := b.versions[put]
	v.updated = b.now
	if v.created == unborn {
		v.created = b.now
	}
	return v
}

// write writes some of the tables, side by side, and gives their names. What it
// wrote before an error has to be removed.
func (b *ingestion) write(which ...int) (paths []string, err error) {
	fills := [...]func(*table) error{
		tableRows: b.writeRows, tablePointers: b.writePointers, tableIndex: b.writeIndex,
		tableSheets: b.writeSheets, tableMeta: b.writeMeta,
	}
	var all errgroup.Group
	var mu sync.Mutex // guards b.written
	for _, i := range which {
		path := b.fs.PathJoin(b.dir, strconv.FormatInt(b.files.Add(1), 10)+".sst")
		paths = append(paths, path)
		all.Go(func() error {
			size, err := b.writeTable(path, i, fills[i])
			mu.Lock()
			defer mu.Unlock()
			b.written += size
			return err
		})
	}
	return paths, all.Wait()
}

// remove removes tables that are not needed; some may not be there.
func (b *ingestion) remove(paths []string) (err error) {
	for _, path := range paths {
		if e := b.fs.Remove(path); e != nil && !isNotExist(e) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// The levels whose options tables are written with. Rows and sheets come to rest
// where they are put, at the bottom; the others are soon compacted, and packed
// lightly until then.
const (
	bottomLevel = 6
	topLevel    = 0
)

// The tables of a piece.
const (
	tableRows = iota
	tablePointers
	tableIndex
	tableSheets
	tableMeta
)

func (b *ingestion) writerOptions(which int) sstable.WriterOptions {
	level := topLevel
	if which == tableRows || which == tableSheets {
		level = bottomLevel
	}
	o := b.opts.MakeWriterOptions(level, b.store.db.TableFormat())
	o.WritingToLowestLevel = false // which the place of a table decides later
	compression := block.FastestCompression
	if level == bottomLevel {
		compression = loadCompression()
		o.FilterPolicy = nil // who asks for a row knows that it is there
	}
	if o.Compression != block.NoCompression {
		o.Compression = compression
	}
	return o
}

// writeTable writes and syncs one table.
func (b *ingestion) writeTable(path string, which int, fill func(*table) error) (size int64, err error) {
	f, err := b.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	o := b.writerOptions(which)
	t := &table{w: sstable.NewWriter(objstorageprovider.NewFileWritable(f), o)}
	if err := errors.Join(fill(t), t.err, t.w.Close()); err != nil {
		return 0, err
	}
	m, err := t.w.Metadata()
	if err != nil {
		return 0, err
	}
	return int64(m.Size), nil
}

// table is a sorted table being written; the first error is kept in err.
type table struct {
	w   *sstable.Writer
	err error
}

func (t *table) set(key, value []byte) {
	if t.err == nil {
		t.err = t.w.Set(key, value)
	}
}

func (t *table) merge(key, value []byte) {
	if t.err == nil {
		t.err = t.w.Merge(key, value)
	}
}

func (b *ingestion) writeRows(t *table) error {
	var key, row []byte
	n := len(b.piece.changes)
	for i := range b.piece.changes {
		c, v := &b.piece.changes[i], b.version(i)
		h := header{
			codec: c.codec, dict: c.dict, key: c.key, version: v.version, commit: b.number, end: b.first + uint64(n),
			updated: v.updated, created: v.created, tag: c.tag,
		}
		row = b.store.bodies.appendRow(row[:0], &h, c.packed)
		key = appendRID(append(key[:0], spaceBody), v.rid)
		t.set(key, row)
	}
	return nil
}

func (b *ingestion) writePointers(t *table) error {
	var key, value []byte
	for _, r := range b.current {
		key = append(append(key[:0], spacePointer), r.self[:]...)
		v := b.version(r.row)
		value = v.append(value[:0])
		t.set(key, value)
	}
	for _, p := range b.past {
		t.set(historyKey(p.self, p.version), appendRID(nil, p.rid))
	}
	return nil
}

// writeIndex writes containers, dead rows, successors and types.
func (b *ingestion) writeIndex(t *table) error {
	w, p := containers{ingestion: b, table: t}, b.piece
	for _, k := range p.sorted {
		w.add(p.keys.key(k), p.rows[p.from[k]:p.from[k+1]])
	}
	b.writeDead(t)
	b.writeSuccessors(t)
	byType := map[plan.Type][]uint32{}
	for i := range b.piece.changes {
		typ := b.piece.changes[i].key.Type
		byType[typ] = append(byType[typ], uint32(i))
	}
	types := make([]plan.Type, 0, len(byType))
	for typ := range byType {
		types = append(types, typ)
	}
	slices.Sort(types)
	for _, typ := range types {
		w.add(typePrefix(typ, kindPut), byType[typ])
	}
	return nil
}

func (b *ingestion) writeDead(t *table) {
	blocks := make([]uint32, 0, len(b.dead))
	for block := range b.dead {
		blocks = append(blocks, block)
	}
	slices.Sort(blocks)
	for _, block := range blocks {
		t.merge(deadKey(block), b.dead[block].encode())
	}
}

func (b *ingestion) writeSuccessors(t *table) {
	past := slices.Clone(b.past)
	slices.SortFunc(past, func(x, y pastVersion) int {
		if x.rid < y.rid {
			return -1
		}
		return 1
	})
	for _, p := range past {
		t.set(successorKey(p.rid), appendRID(nil, p.by))
	}
}

// containers writes the containers of keys, whose rows may lie in several
// blocks.
type containers struct {
	*ingestion
	*table
	key, value []byte
	ords       []uint16
}

// add writes the containers of one key, for ascending rows of the piece, the
// newest block first.
func (w *containers) add(prefix []byte, rows []uint32) {
	for end := len(rows); end > 0; {
		block := uint32((w.first + uint64(rows[end-1])) >> w.store.shift)
		begin := end
		for begin > 0 && uint32((w.first+uint64(rows[begin-1]))>>w.store.shift) == block {
			begin--
		}
		w.ords = w.ords[:0]
		for _, r := range rows[begin:end] {
			w.ords = append(w.ords, w.store.ord(w.first+uint64(r)))
		}
		w.key = binary.BigEndian.AppendUint32(append(w.key[:0], prefix...), ^block)
		w.value = appendOrds(w.value[:0], w.ords)
		w.merge(w.key, w.value)
		end = begin
	}
}

// writeSheets writes what the puts are found by.
func (b *ingestion) writeSheets(t *table) error {
	for _, s := range b.piece.sheets {
		t.set(sheetKey(b.first+uint64(s.end)-1), s.value)
	}
	return nil
}

func (b *ingestion) writeMeta(t *table) error {
	for _, edit := range b.meta {
		t.set(edit.key, edit.value)
	}
	return nil
}
