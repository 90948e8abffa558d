package localkms

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

// The states of a key, as AWS KMS names them (KeyMetadata.KeyState).
const (
	Enabled         = "Enabled"
	Disabled        = "Disabled"
	PendingDeletion = "PendingDeletion"
)

func known(state string) bool {
	return state == Enabled || state == Disabled || state == PendingDeletion
}

// How long a deletion may be waited for, in days (KMS API Reference,
// ScheduleKeyDeletion).
const (
	MinPendingDays = 7
	MaxPendingDays = 30
)

// Bounds of text, in characters (KMS API Reference, CreateKey and CreateAlias).
const (
	maxDescription = 8192
	maxAlias       = 256
)

// Key is one key as it may be shown.
type Key struct {
	ID          string // a UUID
	ARN         string
	Description string
	CreatedAt   time.Time
	State       string    // Enabled, Disabled or PendingDeletion
	DeleteAt    time.Time // when PendingDeletion
	Aliases     []string  // with "alias/", sorted
	Version     int       // of its material: how often it was rotated, and one
	Owned       bool      // the server's own
}

// Alias is a name of a key.
type Alias struct {
	Name string // with "alias/"
	ARN  string
	Key  string // the key's id
}

func newRing(random io.Reader) (*ring, error) {
	r := &ring{Format: ringFormat, Root: make([]byte, seal.KeySize)}
	if _, err := io.ReadFull(random, r.Root); err != nil {
		return nil, fault.Wrap(fault.Internal, "localkms.Open", err)
	}
	r.box = seal.NewBoxWith([seal.KeySize]byte(r.Root), random)
	return r, nil
}

// add makes a key.
func (r *ring) add(k *KMS, description string, owned bool) (*key, error) {
	const op = "localkms.CreateKey"
	var draw [16 + seal.KeySize]byte
	defer clear(draw[:])
	if _, err := io.ReadFull(k.random, draw[:]); err != nil {
		return nil, fault.Wrap(fault.Internal, op, err)
	}
	id := newUUID([16]byte(draw[:16]))
	material, err := seal.NewBoxWith([seal.KeySize]byte(r.Root), k.random).Seal(draw[16:], materialAAD(id, 1))
	if err != nil {
		return nil, err
	}
	made := &key{ID: id, ARN: k.arn("key/" + id), Description: description, CreatedAt: k.clock().UTC().Truncate(time.Second),
		State: Enabled, Owned: owned, Material: material}
	r.Keys = append(r.Keys, made)
	return made, made.open(r.box)
}

// arn is the ARN of a resource of this region and account.
func (k *KMS) arn(resource string) string {
	return "arn:aws:kms:" + k.region + ":" + k.account + ":" + resource
}

// newUUID makes a version 4 UUID (RFC 9562, 5.4) of 16 random bytes.
func newUUID(random [16]byte) string {
	random[6] = random[6]&0x0f | 0x40
	random[8] = random[8]&0x3f | 0x80
	h := hex.EncodeToString(random[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (s[i] == '-') || !dash && !strings.ContainsRune("0123456789abcdef", rune(s[i])) {
			return false
		}
	}
	return true
}

// forget drops the keys whose deletion is due, and their aliases.
func (r *ring) forget(now time.Time) {
	r.Keys = slices.DeleteFunc(r.Keys, func(k *key) bool {
		if k.gone(now) {
			r.unname(k.ID)
			return true
		}
		return false
	})
}

func (r *ring) unname(id string) {
	r.Aliases = slices.DeleteFunc(r.Aliases, func(a alias) bool { return a.Key == id })
}

// gone reports whether the key's deletion is due: it is then as if deleted.
func (k *key) gone(now time.Time) bool {
	return k.State == PendingDeletion && !now.Before(k.DeleteAt)
}

func notFound(name string) error {
	return &fault.Error{Kind: fault.NotFound, Op: "localkms.find", Subject: name, Detail: "no such key"}
}

// find finds a key under any form of name.
func (r *ring) find(k *KMS, name string) (*key, error) {
	for _, found := range r.Keys {
		if r.isNamed(k, found, name) && !found.gone(k.clock()) {
			return found, nil
		}
	}
	return nil, notFound(name)
}

func (r *ring) isNamed(k *KMS, one *key, name string) bool {
	if name == one.ID || name == "key/"+one.ID || name == one.ARN {
		return true
	}
	return slices.ContainsFunc(r.Aliases, func(a alias) bool {
		return a.Key == one.ID && (name == a.Name || name == k.arn(a.Name))
	})
}

// findCustomers finds a key that its owner may change: not the server's own.
func (r *ring) findCustomers(k *KMS, name string) (*key, error) {
	found, err := r.find(k, name)
	if err == nil && found.Owned {
		return nil, &fault.Error{Kind: fault.Forbidden, Op: "localkms.find", Subject: name, Detail: "the server's own key cannot be changed"}
	}
	return found, err
}

func (r *ring) show(k *key) Key {
	shown := Key{ID: k.ID, ARN: k.ARN, Description: k.Description, CreatedAt: k.CreatedAt, State: k.State, DeleteAt: k.DeleteAt, Version: k.version(), Owned: k.Owned}
	for _, a := range r.Aliases {
		if a.Key == k.ID {
			shown.Aliases = append(shown.Aliases, a.Name)
		}
	}
	slices.Sort(shown.Aliases)
	return shown
}

// CreateKey makes a key, enabled. The description has at most 8,192 characters.
func (k *KMS) CreateKey(description string) (Key, error) {
	if len([]rune(description)) > maxDescription {
		return Key{}, fault.New(fault.Invalid, "localkms.CreateKey", "the description has more than %d characters", maxDescription)
	}
	return change(k, func(r *ring) (Key, error) {
		made, err := r.add(k, description, false)
		if err != nil {
			return Key{}, err
		}
		return r.show(made), nil
	})
}

// List lists the customer's keys, oldest first.
func (k *KMS) List() ([]Key, error) {
	return ask(k, func(r *ring) (all []Key, err error) {
		for _, one := range r.Keys {
			if !one.Owned && !one.gone(k.clock()) {
				all = append(all, r.show(one))
			}
		}
		slices.SortStableFunc(all, func(a, b Key) int { return a.CreatedAt.Compare(b.CreatedAt) })
		return all, nil
	})
}

// alter changes one key of the customer's.
func (k *KMS) alter(name string, how func(*key) error) (Key, error) {
	return change(k, func(r *ring) (Key, error) {
		found, err := r.findCustomers(k, name)
		if err != nil {
			return Key{}, err
		}
		if err := how(found); err != nil {
			return Key{}, err
		}
		return r.show(found), nil
	})
}

// Disable makes a key unusable until Enable. A key about to be deleted is
// fault.Conflict.
func (k *KMS) Disable(name string) (Key, error) { return k.turn(name, Disabled) }

// Enable makes a disabled key usable again. A key about to be deleted is
// fault.Conflict: CancelDeletion comes first.
func (k *KMS) Enable(name string) (Key, error) { return k.turn(name, Enabled) }

func (k *KMS) turn(name, state string) (Key, error) {
	return k.alter(name, func(found *key) error {
		if found.State == PendingDeletion {
			return &fault.Error{Kind: fault.Conflict, Op: "localkms.turn", Subject: name, Detail: "the key is about to be deleted", Hint: "cancel its deletion first"}
		}
		found.State = state
		return nil
	})
}

// Rotate gives a key new material: what is wrapped from now on is wrapped by it,
// and what was wrapped before opens still (AWS KMS: RotateKeyOnDemand). It also
// rotates the server's own key. A key that is not enabled is fault.Conflict.
func (k *KMS) Rotate(name string) (Key, error) {
	const op = "localkms.Rotate"
	return change(k, func(r *ring) (Key, error) {
		found, err := r.find(k, name)
		if err != nil {
			return Key{}, err
		}
		if found.State != Enabled {
			return Key{}, &fault.Error{Kind: fault.Conflict, Op: op, Subject: name, Detail: "the key is " + stateWords[found.State], Hint: "enable it first"}
		}
		if len(found.Rotated) == maxRotations {
			return Key{}, &fault.Error{Kind: fault.Conflict, Op: op, Subject: name, Detail: fmt.Sprintf("the key was rotated %d times", maxRotations), Hint: "make another key"}
		}
		var draw [seal.KeySize]byte
		defer clear(draw[:])
		if _, err := io.ReadFull(k.random, draw[:]); err != nil {
			return Key{}, fault.Wrap(fault.Internal, op, err)
		}
		material, err := seal.NewBoxWith([seal.KeySize]byte(r.Root), k.random).Seal(draw[:], materialAAD(found.ID, found.version()+1))
		if err != nil {
			return Key{}, err
		}
		found.Rotated = append(slices.Clone(found.Rotated), rotated{found.Material, k.clock().UTC().Truncate(time.Second)})
		found.Material, r.Format = material, rotatedFormat
		return r.show(found), found.open(r.box)
	})
}

// ScheduleDeletion makes a key unusable now and deletes it after 7 to 30 days.
func (k *KMS) ScheduleDeletion(name string, days int) (Key, error) {
	if days < MinPendingDays || days > MaxPendingDays {
		return Key{}, fault.New(fault.Invalid, "localkms.ScheduleDeletion", "the waiting period is %d to %d days", MinPendingDays, MaxPendingDays)
	}
	return k.alter(name, func(found *key) error {
		if found.State == PendingDeletion {
			return &fault.Error{Kind: fault.Conflict, Op: "localkms.ScheduleDeletion", Subject: name, Detail: "the key is about to be deleted"}
		}
		found.State, found.DeleteAt = PendingDeletion, k.clock().UTC().Truncate(time.Second).AddDate(0, 0, days)
		return nil
	})
}

// CancelDeletion takes a scheduled deletion back; the key is Disabled then, as
// in AWS KMS. A key that is not about to be deleted is fault.Conflict.
func (k *KMS) CancelDeletion(name string) (Key, error) {
	return k.alter(name, func(found *key) error {
		if found.State != PendingDeletion {
			return &fault.Error{Kind: fault.Conflict, Op: "localkms.CancelDeletion", Subject: name, Detail: "the key is not about to be deleted"}
		}
		found.State, found.DeleteAt = Disabled, time.Time{}
		return nil
	})
}

// Delete deletes a key and its aliases at once. What it wrapped can never be
// opened again.
func (k *KMS) Delete(name string) error {
	_, err := change(k, func(r *ring) (struct{}, error) {
		found, err := r.findCustomers(k, name)
		if err != nil {
			return struct{}{}, err
		}
		r.unname(found.ID)
		r.Keys = slices.DeleteFunc(r.Keys, func(one *key) bool { return one == found })
		return struct{}{}, nil
	})
	return err
}

// CreateAlias names a key "alias/<name>": letters, digits and /_- after
// "alias/", not "alias/aws/…", at most 256 characters. A name that is taken is
// fault.Conflict.
func (k *KMS) CreateAlias(name, keyName string) (Alias, error) {
	if err := checkAlias(name); err != nil {
		return Alias{}, err
	}
	return change(k, func(r *ring) (Alias, error) {
		found, err := r.findCustomers(k, keyName)
		if err != nil {
			return Alias{}, err
		}
		if slices.ContainsFunc(r.Aliases, func(a alias) bool { return a.Name == name }) {
			return Alias{}, &fault.Error{Kind: fault.Conflict, Op: "localkms.CreateAlias", Subject: name, Detail: "the alias is taken"}
		}
		r.Aliases = append(r.Aliases, alias{name, found.ID})
		return Alias{Name: name, ARN: k.arn(name), Key: found.ID}, nil
	})
}

func checkAlias(name string) error {
	rest, ok := strings.CutPrefix(name, "alias/")
	bad := func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("/_-", c))
	}
	if !ok || rest == "" || len(name) > maxAlias || strings.ContainsFunc(rest, bad) || strings.HasPrefix(rest, "aws/") {
		return &fault.Error{Kind: fault.Invalid, Op: "localkms.CreateAlias", Subject: name, Detail: "not a name for an alias",
			Hint: fmt.Sprintf("alias/ and letters, digits, /, _ and -, at most %d characters, not alias/aws/", maxAlias)}
	}
	return nil
}

// DeleteAlias takes a name away. Stores keep the key they resolved it to.
func (k *KMS) DeleteAlias(name string) error {
	_, err := change(k, func(r *ring) (struct{}, error) {
		before := len(r.Aliases)
		r.Aliases = slices.DeleteFunc(r.Aliases, func(a alias) bool { return a.Name == name || k.arn(a.Name) == name })
		if len(r.Aliases) == before {
			return struct{}{}, &fault.Error{Kind: fault.NotFound, Op: "localkms.DeleteAlias", Subject: name, Detail: "no such alias"}
		}
		return struct{}{}, nil
	})
	return err
}

// Aliases lists the aliases by name.
func (k *KMS) Aliases() ([]Alias, error) {
	return ask(k, func(r *ring) ([]Alias, error) {
		all := make([]Alias, len(r.Aliases))
		for i, a := range r.Aliases {
			all[i] = Alias{Name: a.Name, ARN: k.arn(a.Name), Key: a.Key}
		}
		slices.SortFunc(all, func(a, b Alias) int { return cmp.Compare(a.Name, b.Name) })
		return all, nil
	})
}
