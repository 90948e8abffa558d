// Package backup keeps backups of data stores in a folder, or in a bucket of S3.
//
//	<root>/<store>/files/<id>       files as the engine gave them, sealed under the store's data key
//	<root>/<store>/moments/<time>   manifests: which files make the store of that moment
//
//	Dir.Store(id)      one store's backups
//	Store.Has Keep     store.Keeper, for the engine
//	Store.Commit       makes a backup true: its manifest, written last
//	Store.Newest       the newest backup, as it is restored
//	Store.Prune        removes what no kept manifest names
//
// A manifest carries the wrapped data key and what it is bound to, so a backup
// can be opened with the KMS key alone. It is authenticated under the data key.
// As a store holds all its history, the newest backup holds every moment before
// it: older manifests are kept only against a newest that is torn.
package backup

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/store"
)

// format numbers manifests. 1: the first.
const format = 1

// keptManifests is how many of the newest manifests Prune leaves.
const keptManifests = 2

// maxManifest bounds a manifest, in bytes: a hundred for each of a few million
// files.
const maxManifest = 512 << 20

// macLabel derives the key of manifests' MACs from a data key.
const macLabel = "backup manifest"

// The folders of a store's backups.
const (
	filesFolder   = "files"
	momentsFolder = "moments"
	timeLayout    = "20060102T150405.000Z"
)

// Dir is the place of all backups: a folder, or what begins with a prefix in a
// bucket.
type Dir struct {
	Root   string      // the folder, where there is no Bucket
	Bucket blob.Bucket // nil: a folder
	Prefix string      // of the keys in the bucket: empty, or with a slash at its end
}

// Store gives the backups of one data store; id is that of a data store.
func (d *Dir) Store(id string) *Store {
	if d.Bucket != nil {
		return &Store{&objects{bucket: d.Bucket, prefix: d.Prefix + id + "/"}}
	}
	return &Store{folder(filepath.Join(d.Root, id))}
}

// Store is the backups of one data store.
type Store struct{ shelf shelf }

// shelf is where the backups of one store lie, by names with one slash.
type shelf interface {
	// has reports whether there is a file of that name, whole.
	has(name string) (bool, error)
	// keep makes a file of a size, whole and durable or not at all.
	keep(ctx context.Context, name string, size int64, content io.Reader) error
	// list gives the names in a folder, without it.
	list(folder string) ([]string, error)
	open(name string) (io.ReadCloser, error)
	remove(name string) error
	// tidy removes what writing that was cut short left in a folder.
	tidy(folder string) error
	// clear removes a folder and all in it; "" is everything.
	clear(folder string) error
}

// Manifest says what a backup is made of.
type Manifest struct {
	Format    int
	Store     string
	Taken     time.Time         // everything acknowledged before is in it
	Key       seal.Wrapped      // the data key that the files are sealed under
	Context   map[string]string // what the wrapped key is bound to
	Datastore json.RawMessage   // the data store's record then
	Files     []store.BackupFile
}

// signed is a manifest as it is kept.
type signed struct {
	Manifest json.RawMessage
	MAC      []byte
}

var _ store.Keeper = (*Store)(nil)

// Has implements store.Keeper.
func (s *Store) Has(id string) (bool, error) { return s.shelf.has(fileName(id)) }

// Keep implements store.Keeper.
func (s *Store) Keep(ctx context.Context, id string, size int64, content io.Reader) error {
	return s.shelf.keep(ctx, fileName(id), size, content)
}

func fileName(id string) string { return filesFolder + "/" + path.Base(id) }

// Commit writes a manifest, which makes its files a backup.
func (s *Store) Commit(m Manifest, key seal.DataKey) error {
	m.Format = format
	raw, err := json.Marshal(m)
	if err != nil {
		return fault.Wrap(fault.Internal, "backup.Commit", err)
	}
	mac := seal.MAC(key.Derive(macLabel), raw)
	out, err := json.Marshal(signed{raw, mac[:]})
	if err != nil {
		return fault.Wrap(fault.Internal, "backup.Commit", err)
	}
	name := momentsFolder + "/" + m.Taken.UTC().Format(timeLayout)
	return s.shelf.keep(context.Background(), name, int64(len(out)), bytes.NewReader(out))
}

// moments lists the manifests' names, newest first.
func (s *Store) moments() ([]string, error) {
	names, err := s.shelf.list(momentsFolder)
	names = slices.DeleteFunc(names, func(name string) bool {
		_, failed := time.Parse(timeLayout, name)
		return failed != nil
	})
	slices.Sort(names)
	slices.Reverse(names)
	return names, err
}

// Newest reads the newest manifest, whose MAC Verify holds against the data key;
// fault.NotFound when there is no backup.
func (s *Store) Newest() (*Manifest, error) {
	m, _, err := s.newest()
	return m, err
}

func (s *Store) newest() (*Manifest, *signed, error) {
	names, err := s.moments()
	if err != nil {
		return nil, nil, err
	}
	if len(names) == 0 {
		return nil, nil, fault.New(fault.NotFound, "backup.Newest", "there is no backup")
	}
	return s.read(names[0])
}

func (s *Store) read(name string) (*Manifest, *signed, error) {
	f, err := s.shelf.open(momentsFolder + "/" + name)
	if err != nil {
		return nil, nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, nil, err
	}
	return parse(raw)
}

// parse reads a manifest.
func parse(raw []byte) (*Manifest, *signed, error) {
	var kept signed
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, nil, broken(err)
	}
	var m Manifest
	if err := json.Unmarshal(kept.Manifest, &m); err != nil {
		return nil, nil, broken(err)
	}
	if m.Format != format {
		return nil, nil, fault.New(fault.NotSupported, "backup.read", "format %d of backups is not known to this version", m.Format)
	}
	return &m, &kept, nil
}

func broken(cause error) error {
	return &fault.Error{Kind: fault.Internal, Op: "backup.read", Detail: "the manifest of a backup is damaged", Cause: cause}
}

// Backup is a backup that can be restored: store.Kept.
type Backup struct {
	*Manifest
	key seal.DataKey
	of  *Store
}

// Opened gives the newest backup to restore, under its data key: fault.Internal
// when the manifest is not what was written.
func (s *Store) Opened(key seal.DataKey) (*Backup, error) {
	m, kept, err := s.newest()
	if err != nil {
		return nil, err
	}
	var plain bytes.Buffer
	if err := json.Compact(&plain, kept.Manifest); err != nil {
		return nil, broken(err)
	}
	mac := seal.MAC(key.Derive(macLabel), plain.Bytes())
	if subtle.ConstantTimeCompare(mac[:], kept.MAC) != 1 {
		return nil, broken(errors.New("its MAC does not verify"))
	}
	return &Backup{Manifest: m, key: key, of: s}, nil
}

// Key implements store.Kept.
func (b *Backup) Key() seal.DataKey { return b.key }

// Files implements store.Kept.
func (b *Backup) Files() []store.BackupFile { return b.Manifest.Files }

// Open implements store.Kept.
func (b *Backup) Open(id string) (io.ReadCloser, error) {
	return b.of.shelf.open(fileName(id))
}

// Prune removes all but the newest manifests, and the files that they do not
// name. No backup may be under way.
func (s *Store) Prune() error {
	names, err := s.moments()
	if err != nil || len(names) == 0 {
		return err
	}
	for _, old := range names[min(keptManifests, len(names)):] {
		if err := s.shelf.remove(momentsFolder + "/" + old); err != nil {
			return err
		}
	}
	named := map[string]bool{}
	for _, name := range names[:min(keptManifests, len(names))] {
		m, _, err := s.read(name)
		if err != nil {
			return err
		}
		for _, f := range m.Files {
			named[f.ID] = true
		}
	}
	files, err := s.shelf.list(filesFolder)
	for _, name := range files {
		if !named[name] {
			err = errors.Join(err, s.shelf.remove(filesFolder+"/"+name))
		}
	}
	return errors.Join(err, s.shelf.tidy(filesFolder), s.shelf.tidy(momentsFolder))
}

// Remove takes all backups of the store away, manifests (and so keys) first. It
// may be repeated.
func (s *Store) Remove() error {
	return errors.Join(s.shelf.clear(momentsFolder), s.shelf.clear(""))
}
