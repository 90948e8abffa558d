package lsm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// A backup is a checkpoint of Pebble, whose tables are links to those of the
// database, with the STORE and FORMAT files. Tables never change, so those that
// are kept from a backup before are not given again.
var (
	_ store.Backuper = (*Store)(nil)
	_ store.Restorer = (*Engine)(nil)
)

// checkpointName is the folder of the checkpoint while it is given away.
const checkpointName = "checkpoint"

// Backup implements store.Backuper. One backup of a store at a time.
func (s *Store) Backup(ctx context.Context, to store.Keeper) (files []store.BackupFile, err error) {
	const op = "lsm.Backup"
	leave, err := s.enter(ctx, op)
	if err != nil {
		return nil, err
	}
	defer leave()
	s.backups.Lock()
	defer s.backups.Unlock()
	at := s.dir.join(checkpointName)
	if err := s.dir.fs.RemoveAll(at); err != nil { // of a backup that a crash stopped
		return nil, wrapDisk(op, err)
	}
	// What is in memory goes into tables first: they are given away once, the log
	// would be each time.
	if err := s.checkpoint(ctx, at); err != nil {
		return nil, wrapDisk(op, err)
	}
	defer func() { err = errors.Join(err, s.dir.fs.RemoveAll(at)) }()
	names, err := s.dir.fs.List(at)
	if err != nil {
		return nil, wrapDisk(op, err)
	}
	slices.Sort(names)
	g := giver{ctx: ctx, fs: s.dir.fs, to: to}
	for _, name := range names {
		g.give(s.dir.fs.PathJoin(at, name), databaseName+"/"+name)
	}
	g.give(s.dir.join(constantsName), constantsName)
	g.give(s.dir.join(formatName), formatName)
	return g.files, fault.Wrap(fault.Internal, op, g.err)
}

func (s *Store) checkpoint(ctx context.Context, at string) error {
	if err := s.flush(ctx, s.disk.leave); err != nil {
		return err
	}
	return s.db.Checkpoint(at, pebble.WithFlushedWAL())
}

// giver gives files to a keeper, until one fails.
type giver struct {
	ctx   context.Context
	fs    vfs.FS
	to    store.Keeper
	files []store.BackupFile
	err   error
}

func (g *giver) give(path, name string) {
	if g.err = errors.Join(g.err, ended(g.ctx, "lsm.Backup")); g.err != nil {
		return
	}
	f, err := g.fs.Open(path)
	if err != nil {
		g.err = err
		return
	}
	defer func() { g.err = errors.Join(g.err, f.Close()) }()
	file, err := identify(f, name)
	if err == nil {
		var kept bool
		if kept, err = g.to.Has(file.ID); err == nil && !kept {
			err = g.to.Keep(g.ctx, file.ID, file.Size, io.NewSectionReader(f, 0, file.Size))
		}
	}
	g.files, g.err = append(g.files, file), err
}

// identifying is how much of a file tells it from every other, in bytes: the
// header of a sealed file, which holds 32 random bytes.
const identifying = 64

// identify names a file's content.
func identify(f vfs.File, name string) (store.BackupFile, error) {
	info, err := f.Stat()
	if err != nil {
		return store.BackupFile{}, err
	}
	head, err := io.ReadAll(io.NewSectionReader(f, 0, identifying))
	sum := sha256.Sum256(head)
	id := hex.EncodeToString(sum[:16]) + "-" + strconv.FormatInt(info.Size(), 16)
	return store.BackupFile{Name: name, ID: id, Size: info.Size()}, err
}

// Restore implements store.Restorer: the files are opened under the backup's key
// and written again under the store's own. The key of the rows' MACs goes along
// in the STORE file: it is not derived from the new key.
func (e *Engine) Restore(ctx context.Context, id store.ID, key seal.DataKey, from store.Kept) error {
	const op = "lsm.Restore"
	if err := check(ctx, op, id); err != nil {
		return err
	}
	dir := e.dir(id)
	there, err := dir.exists()
	if err != nil {
		return fault.Wrap(fault.Internal, op, err)
	}
	if there {
		_, err := dir.readConstants(key)
		return fault.Wrap(fault.Internal, op, err)
	}
	if err := makeDir(e.opts.FS, e.opts.Root); err != nil {
		return wrapDisk(op, err)
	}
	making := storeDir{fs: dir.fs, root: dir.root, path: dir.path + makingSuffix}
	if err := errors.Join(making.fs.RemoveAll(making.path), making.fs.MkdirAll(making.join(databaseName), 0o700)); err != nil {
		return wrapDisk(op, err)
	}
	r := restoring{ctx: ctx, dir: making, from: from, old: seal.NewFS(making.fs, from.Key()), fresh: seal.NewFS(making.fs, key)}
	defer r.old.Wipe()
	defer r.fresh.Wipe()
	if err := r.files(); err != nil {
		return wrapDisk(op, err)
	}
	err = errors.Join(syncDir(making.fs, making.join(databaseName)), syncDir(making.fs, making.path))
	if err == nil {
		err = making.fs.Rename(making.path, dir.path)
	}
	if err == nil {
		err = syncDir(dir.fs, dir.root)
	}
	return wrapDisk(op, err)
}

// restoring is a store that is being made of a backup.
type restoring struct {
	ctx        context.Context
	dir        storeDir
	from       store.Kept
	old, fresh *seal.FS
}

func (r *restoring) files() error {
	if err := r.olderKeys(); err != nil {
		return err
	}
	for _, file := range r.from.Files() {
		if err := ended(r.ctx, "lsm.Restore"); err != nil {
			return err
		}
		if err := r.file(file); err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
	}
	return r.constants()
}

// olderKeys reads the backup's STORE file first: while a data key is exchanged, it
// has the keys of the files that are still sealed under another.
func (r *restoring) olderKeys() error {
	i := slices.IndexFunc(r.from.Files(), func(f store.BackupFile) bool { return f.Name == constantsName })
	if i < 0 {
		return corrupt("a backup has no STORE file")
	}
	raw := r.dir.join(constantsName)
	if err := r.fetch(r.from.Files()[i], raw); err != nil {
		return err
	}
	c, err := readConstantsFile(r.old, r.dir)
	if err != nil {
		return err
	}
	c.openFiles(r.old)
	return r.dir.fs.Remove(raw)
}

// rawName is the file that a file of the backup is in before it is sealed anew.
const rawName = "raw"

func (r *restoring) file(file store.BackupFile) error {
	inside, table := strings.CutPrefix(file.Name, databaseName+"/")
	if !table {
		inside = file.Name
	}
	if inside == "" || strings.ContainsAny(inside, "/\\") || strings.HasPrefix(inside, ".") {
		return corrupt("a backup names a file outside of the store")
	}
	raw := r.dir.join(rawName)
	if err := r.fetch(file, raw); err != nil {
		return err
	}
	if file.Name == formatName {
		return r.dir.fs.Rename(raw, r.dir.join(formatName))
	}
	target := r.dir.join(inside)
	if table {
		target = r.dir.fs.PathJoin(r.dir.join(databaseName), inside)
	}
	if file.Size == 0 { // Pebble's markers
		return r.dir.fs.Rename(raw, target)
	}
	if err := copySealed(r.old, raw, r.fresh, target); err != nil {
		return err
	}
	return r.dir.fs.Remove(raw)
}

func (r *restoring) fetch(file store.BackupFile, to string) error {
	content, err := r.from.Open(file.ID)
	if err != nil {
		return err
	}
	defer content.Close()
	n, err := writeStream(r.dir.fs, to, content)
	if err == nil && n != file.Size {
		return corrupt("a file of the backup has another size than it had")
	}
	return err
}

func copySealed(old *seal.FS, from string, fresh *seal.FS, to string) (err error) {
	f, err := old.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = writeStream(fresh, to, f)
	return err
}

// writeStream writes a file and syncs it.
func writeStream(fs vfs.FS, name string, from io.Reader) (n int64, err error) {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	// By a buffer of io.Copy's own, never the reader's: a vfs.File may change what
	// it is given to write.
	if n, err = io.Copy(f, struct{ io.Reader }{from}); err == nil {
		err = f.Sync()
	}
	return n, errors.Join(err, f.Close())
}

// constants writes the STORE file again, with the key of the rows' MACs.
func (r *restoring) constants() error {
	c, err := readConstantsFile(r.fresh, r.dir)
	if err != nil {
		return err
	}
	if len(c.MACKey) == 0 {
		mac := r.from.Key().Derive(macLabel)
		c.MACKey = mac[:]
	}
	c.OlderKeys = nil // every file was sealed anew
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	if _, err := r.dir.format(); err != nil {
		return err
	}
	return writeFile(r.fresh, r.dir.join(constantsName), text)
}
