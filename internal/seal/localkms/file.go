package localkms

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

// The bounds of a key file.
const (
	// maxFile bounds the file's size: 100,000 keys (the quota of AWS KMS) of
	// some 400 bytes each.
	maxFile = 64 << 20
	// lockWait bounds the wait for another process's change, which takes
	// milliseconds.
	lockWait = 10 * time.Second
	// lockRetry is how often the lock is tried meanwhile.
	lockRetry = 5 * time.Millisecond
	// ownerOnly are the permissions of a key file.
	ownerOnly os.FileMode = 0o600
)

// ringFormat numbers the key file's form.
//
//	1  the first
//	2  keys may have older material; written once a key was rotated
const (
	ringFormat    = 1
	rotatedFormat = 2
)

// ring is the content of a key file, as JSON:
//
//	{"format":1, "root":"<base64, 32 bytes>",
//	 "keys":[{"id":"<uuid>","arn":"arn:…","createdAt":"…","state":"Enabled",
//	          "material":"<base64, seal.Box of the key's 32 bytes>",
//	          "rotated":[{"material":"…","until":"…"}]}],
//	 "aliases":[{"name":"alias/…","key":"<uuid>"}]}
type ring struct {
	Format  int     `json:"format"`
	Root    []byte  `json:"root"`
	Keys    []*key  `json:"keys"`
	Aliases []alias `json:"aliases,omitempty"`

	box *seal.Box // of Root
}

// key is one KMS key.
type key struct {
	ID          string    `json:"id"`
	ARN         string    `json:"arn"`
	Description string    `json:"description,omitempty"`
	CreatedAt   time.Time `json:"createdAt"`
	State       string    `json:"state"`
	DeleteAt    time.Time `json:"deleteAt,omitzero"` // when PendingDeletion
	Owned       bool      `json:"owned,omitempty"`   // the server's own
	Material    []byte    `json:"material"`          // sealed by the root key, bound to ID and version
	// Rotated are the materials before, the first first: Rotated[i] is version i+1,
	// Material the last version.
	Rotated []rotated `json:"rotated,omitempty"`

	boxes []*seal.Box // of the opened materials, by version - 1
}

// rotated is material that wraps nothing new any more, and still opens.
type rotated struct {
	Material []byte    `json:"material"`
	Until    time.Time `json:"until"`
}

// maxRotations bounds how often a key is rotated.
const maxRotations = 1000

// version is the number of the key's present material, from 1.
func (k *key) version() int { return len(k.Rotated) + 1 }

type alias struct {
	Name string `json:"name"` // with "alias/"
	Key  string `json:"key"`  // id
}

func damaged(why string, cause error) error {
	return &fault.Error{Kind: fault.Internal, Op: "localkms.read", Detail: "the key file is damaged: " + why, Cause: cause}
}

// parse reads a key file whole and opens every key in it, so that damage shows
// at once and not when a key is needed.
func parse(raw []byte) (*ring, error) {
	var form struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(raw, &form); err != nil {
		return nil, damaged("not JSON", errors.New("syntax")) // the cause could quote key bytes
	}
	if form.Format != ringFormat && form.Format != rotatedFormat {
		return nil, fault.New(fault.NotSupported, "localkms.read", "format %d of key files is not known to this version", form.Format)
	}
	r := new(ring)
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(r); err != nil {
		return nil, damaged("not a key file", errors.New("shape"))
	}
	return r, r.open()
}

// open opens the keys and checks that all belongs together.
func (r *ring) open() error {
	if len(r.Root) != seal.KeySize {
		return damaged(fmt.Sprintf("the root key has %d bytes", len(r.Root)), nil)
	}
	r.box = seal.NewBox([seal.KeySize]byte(r.Root))
	ids, owned := map[string]bool{}, 0
	for _, k := range r.Keys {
		if k == nil || !isUUID(k.ID) || ids[k.ID] || !known(k.State) || !strings.HasSuffix(k.ARN, ":key/"+k.ID) {
			return damaged("a key's id, ARN or state is not sound", nil)
		}
		ids[k.ID] = true
		if len(k.Rotated) > 0 && r.Format == ringFormat || len(k.Rotated) > maxRotations {
			return damaged("a key has older material that it cannot have", nil)
		}
		if err := k.open(r.box); err != nil {
			return err
		}
		if k.Owned {
			owned++
		}
	}
	if owned != 1 {
		return damaged(fmt.Sprintf("it has %d keys of the server's own", owned), nil)
	}
	names := map[string]bool{}
	for _, a := range r.Aliases {
		if names[a.Name] || !ids[a.Key] {
			return damaged("an alias is there twice, or leads nowhere", nil)
		}
		names[a.Name] = true
	}
	return nil
}

// materialAAD binds material to its key and, from the second on, to its version.
func materialAAD(id string, version int) []byte {
	if version == 1 {
		return []byte("tarn.localkms.v1 material " + id)
	}
	return fmt.Appendf(nil, "tarn.localkms.v2 material %s %d", id, version)
}

// open opens the key's materials.
func (k *key) open(root *seal.Box) error {
	k.boxes = make([]*seal.Box, k.version())
	for i := range k.boxes {
		sealed := k.Material
		if i < len(k.Rotated) {
			sealed = k.Rotated[i].Material
		}
		material, err := root.Open(sealed, materialAAD(k.ID, i+1))
		if err != nil || len(material) != seal.KeySize {
			return damaged("a key does not open under the root key", err)
		}
		k.boxes[i] = seal.NewBox([seal.KeySize]byte(material))
		clear(material)
	}
	return nil
}

// clone copies what a change may touch.
func (r *ring) clone() *ring {
	c := *r
	c.Keys = make([]*key, len(r.Keys))
	for i, k := range r.Keys {
		copied := *k
		c.Keys[i] = &copied
	}
	c.Aliases = append([]alias(nil), r.Aliases...)
	return &c
}

// read reads the key file into k. mu is held.
func (k *KMS) read() error {
	f, err := os.Open(k.path)
	if err != nil {
		return fault.Wrap(fault.Internal, "localkms.read", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	stat, err := f.Stat()
	if err != nil {
		return fault.Wrap(fault.Internal, "localkms.read", err)
	}
	if err := private(stat); err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return fault.Wrap(fault.Internal, "localkms.read", err)
	}
	if len(raw) > maxFile {
		return damaged("it is larger than a key file can be", nil)
	}
	defer clear(raw)
	read, err := parse(raw)
	if err != nil {
		return err
	}
	k.ring, k.seen, k.looked, k.broken = read, stat, k.clock(), nil
	return nil
}

// private refuses a key file that others may read or write.
func private(stat os.FileInfo) error {
	if loose := stat.Mode().Perm() &^ ownerOnly; loose&0o077 != 0 {
		return &fault.Error{Kind: fault.Forbidden, Op: "localkms.read",
			Detail: fmt.Sprintf("the key file has permissions %04o: others than its owner can use it", stat.Mode().Perm()),
			Hint:   "chmod 600, and think about who may have read it"}
	}
	return nil
}

// write replaces the key file: a new file, synced, renamed, the folder synced.
// mu and the lock are held.
func (k *KMS) write(r *ring) error {
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fault.Wrap(fault.Internal, "localkms.write", err)
	}
	defer clear(raw)
	fresh := k.path + ".new"
	if err := replace(k.path, fresh, append(raw, '\n')); err != nil {
		return fault.Wrap(fault.Internal, "localkms.write", err)
	}
	return k.read()
}

// replace puts content in the place of path, by way of the file fresh. Its name
// is always the same (not as package durable does it): the next change takes away
// what a crash left, which would keep keys that were deleted since.
func replace(path, fresh string, content []byte) error {
	if err := writeSynced(fresh, content); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// writeSynced makes a file that only its owner may use, in place of a left-over.
func writeSynced(path string, content []byte) error {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, ownerOnly)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
