package lsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// formatNumber is the format that this program writes. It reads every one before,
// and raises a store's number when it opens it: what it finds stays true, and is
// written anew little by little.
//
//	1  first
//	2  facts in sheets; loose ones (all that format 1 had) become sheets
//	3  folded bodies; rows that are shorter by half a MAC, and more alike
const formatNumber = 3

// formatText begins the FORMAT file, before the number.
const formatText = "tarn-lsm "

// The names inside a store's folder.
const (
	formatName     = "FORMAT"
	raisedName     = "FORMAT.new" // before it is renamed
	constantsName  = "STORE"
	databaseName   = "db"
	quarantineName = "QUARANTINE"
)

// A folder under construction and one being removed have these endings, which
// no id can have: a folder without is whole.
const (
	makingSuffix   = ".making"
	droppingSuffix = ".dropping"
)

// maxSmallFile bounds the files that are read whole, in bytes.
const maxSmallFile = 1 << 16

// constants are what never changes in a store's life: the STORE file.
type constants struct {
	HashKey   plan.HashKey `json:"hashKey"`
	BlockRows int          `json:"blockRows"`
	// MACKey is the key of the rows' MACs in a store that was restored under
	// another data key; none: it is derived from the data key.
	MACKey []byte `json:"macKey,omitempty"`
	// OlderKeys are keys that files are still sealed under while the data key is
	// exchanged (seal.FS.FilesKeys).
	OlderKeys [][]byte `json:"olderKeys,omitempty"`
}

func (c constants) sound() bool {
	return validBlockRows(c.BlockRows) && (len(c.MACKey) == 0 || len(c.MACKey) == seal.KeySize) &&
		!slices.ContainsFunc(c.OlderKeys, func(key []byte) bool { return len(key) != seal.KeySize })
}

// openFiles lets files open that are still sealed under keys of before.
func (c constants) openFiles(fs *seal.FS) *seal.FS {
	for _, key := range c.OlderKeys {
		fs.AddOlder([seal.KeySize]byte(key))
	}
	return fs
}

// storeDir is the folder of one data store.
type storeDir struct {
	fs   vfs.FS // not sealed
	root string
	path string
}

func (e *Engine) dir(id store.ID) storeDir {
	return storeDir{fs: e.opts.FS, root: e.opts.Root, path: e.opts.FS.PathJoin(e.opts.Root, string(id))}
}

// hasManifest refuses a database whose marker is gone, which names the newest manifest:
// Pebble would take it for a new one, and remove its tables.
func (d storeDir) hasManifest() error {
	names, err := d.fs.List(d.join(databaseName))
	if err != nil {
		return err
	}
	database := false
	for _, name := range names {
		if strings.HasPrefix(name, "marker.manifest.") {
			return nil
		}
		database = database || strings.HasPrefix(name, "MANIFEST-") || strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".log")
	}
	if database {
		return corrupt("the file that names the newest manifest is lost")
	}
	return nil
}

func (d storeDir) join(name string) string { return d.fs.PathJoin(d.path, name) }

func (d storeDir) exists() (bool, error) { return fileExists(d.fs, d.path) }

func fileExists(fs vfs.FS, name string) (bool, error) {
	_, err := fs.Stat(name)
	if isNotExist(err) {
		return false, nil
	}
	return err == nil, err
}

// makeDir makes a folder and its parents, so that a crash leaves them.
func makeDir(fs vfs.FS, dir string) error {
	there, err := fileExists(fs, dir)
	if there || err != nil {
		return err
	}
	parent := fs.PathDir(dir)
	if parent != dir {
		if err := makeDir(fs, parent); err != nil {
			return err
		}
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syncDir(fs, parent)
}

// create makes the folder under another name and renames it when it is whole.
// What an earlier try left is removed first.
func (d storeDir) create(key seal.DataKey, c constants) error {
	making := storeDir{fs: d.fs, root: d.root, path: d.path + makingSuffix}
	if err := d.fs.RemoveAll(making.path); err != nil {
		return err
	}
	if err := d.fs.MkdirAll(making.join(databaseName), 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	sealed := seal.NewFS(d.fs, key)
	defer sealed.Wipe()
	if err := writeFile(sealed, making.join(constantsName), text); err != nil {
		return err
	}
	if err := writeFile(d.fs, making.join(formatName), formatFile()); err != nil {
		return err
	}
	if err := syncDir(d.fs, making.path); err != nil {
		return err
	}
	if err := d.fs.Rename(making.path, d.path); err != nil {
		return err
	}
	return syncDir(d.fs, d.root)
}

// drop renames the folder, so that it is no store any more, and removes it.
func (d storeDir) drop() error {
	there, err := d.exists()
	if err != nil {
		return err
	}
	if there {
		if err := d.fs.RemoveAll(d.path + droppingSuffix); err != nil {
			return err
		}
		if err := d.fs.Rename(d.path, d.path+droppingSuffix); err != nil {
			return err
		}
		if err := syncDir(d.fs, d.root); err != nil {
			return err
		}
	}
	if err := d.fs.RemoveAll(d.path + makingSuffix); err != nil {
		return err
	}
	return d.fs.RemoveAll(d.path + droppingSuffix)
}

// readConstants checks the format and reads STORE; another key is
// fault.Forbidden, a newer format fault.Unavailable.
func (d storeDir) readConstants(key seal.DataKey) (constants, error) {
	if _, err := d.format(); err != nil {
		return constants{}, err
	}
	sealed := seal.NewFS(d.fs, key)
	defer sealed.Wipe()
	return readConstantsFile(sealed, d)
}

func readConstantsFile(sealed *seal.FS, d storeDir) (constants, error) {
	text, err := readFile(sealed, d.join(constantsName))
	if err != nil {
		return constants{}, err
	}
	var c constants
	if err := json.Unmarshal(text, &c); err != nil || !c.sound() {
		return constants{}, corrupt("the STORE file has a wrong form")
	}
	return c, nil
}

// format reads the number of the format; one that is not known is an error.
func (d storeDir) format() (int, error) {
	text, err := readFile(d.fs, d.join(formatName))
	if err != nil {
		return 0, err
	}
	number, ok := strings.CutPrefix(strings.TrimSpace(string(text)), formatText)
	format, err := strconv.Atoi(number)
	if !ok || err != nil || format < 1 {
		return 0, corrupt("the FORMAT file has a wrong form")
	}
	if format > formatNumber {
		return 0, &fault.Error{
			Kind: fault.Unavailable, Op: "lsm.Open",
			Detail: fmt.Sprintf("the store has format %d, and this version knows formats up to %d", format, formatNumber),
			Hint:   "use a newer version of the program",
		}
	}
	return format, nil
}

// raiseFormat gives a store the number of the format that is written from now
// on: before anything of it is.
func (d storeDir) raiseFormat() error {
	format, err := d.format()
	if err != nil || format == formatNumber {
		return err
	}
	if err := writeFile(d.fs, d.join(raisedName), formatFile()); err != nil {
		return err
	}
	if err := d.fs.Rename(d.join(raisedName), d.join(formatName)); err != nil {
		return err
	}
	return syncDir(d.fs, d.path)
}

func formatFile() []byte { return []byte(formatText + strconv.Itoa(formatNumber) + "\n") }

// writeFile writes a small file and syncs it, not its folder.
func writeFile(fs vfs.FS, name string, content []byte) (err error) {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func readFile(fs vfs.FS, name string) (content []byte, err error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	content, err = io.ReadAll(io.LimitReader(f, maxSmallFile))
	return content, errors.Join(err, f.Close())
}

func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
