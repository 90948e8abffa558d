package interaction

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// TypeIdempotency is the type of the documents that keep used idempotency keys,
// in the data store itself: key, and of apps with a token whose it is, → "Type/id" of what was created with it. They
// are committed together with the resource and kept for the store's life.
// Persisted: never reuse the number.
const TypeIdempotency = plan.SystemTypes + 0x100

// DuplicateKey says that an idempotency key was used before.
type DuplicateKey struct {
	// Location is what was created with it, "Type/id"; empty when the caller may
	// not know of it.
	Location string
}

func (d *DuplicateKey) Error() string { return d.Unwrap().Error() }

// Unwrap is the fault that goes to the client, in HealthLake's words.
func (d *DuplicateKey) Unwrap() error {
	return &fault.Error{Kind: fault.Duplicate, Op: "interaction.Create",
		Detail: "A resource is already created using the provided idempotency Key"}
}

// ownerDigits is how much of an owner's SHA-256 stands in the id of a key's
// document, in hexadecimal digits: behind a UUID and a dash there is room for 27
// in an id.
const ownerDigits = 26

// idempotencyID is the id of a key's document.
func idempotencyID(text, owner string) string {
	id := strings.ToLower(text)
	if owner == "" {
		return id
	}
	sum := sha256.Sum256([]byte(owner))
	return id + "-" + hex.EncodeToString(sum[:])[:ownerDigits]
}

// idempotencyOp keeps a key together with what it stands for.
func idempotencyOp(text, owner string, made plan.Key) (store.Op, error) {
	if !isUUID(text) {
		return store.Op{}, &fault.Error{Kind: fault.Invalid, Op: "interaction.idempotencyOp", Subject: "x-amz-fhir-idempotency-key", Detail: "not a UUID"}
	}
	return store.Op{
		Kind: store.Put, Key: plan.Key{Type: TypeIdempotency, ID: idempotencyID(text, owner)}, Body: appendKey(nil, made),
		If: []store.Condition{{Kind: store.Never}},
	}, nil
}

// isUUID reports whether s is 8-4-4-4-12 hexadecimal digits (RFC 9562).
func isUUID(s string) bool {
	const form = "00000000-0000-0000-0000-000000000000"
	if len(s) != len(form) {
		return false
	}
	for i := range len(s) {
		c := s[i] | 0x20 // lower case
		digit := '0' <= s[i] && s[i] <= '9' || 'a' <= c && c <= 'f'
		if (form[i] == '-') != (s[i] == '-') || form[i] == '0' && !digit {
			return false
		}
	}
	return true
}

// appendKey writes a key as the document keeps it: the type's number in two
// bytes, the id.
func appendKey(dst []byte, key plan.Key) []byte {
	return append(append(dst, byte(key.Type>>8), byte(key.Type)), key.ID...)
}

// duplicate is the refusal of a key that was used before.
func (s *Session) duplicate(ctx context.Context, kept plan.Key) error {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return err
	}
	defer view.Close()
	rec, err := view.Get(ctx, kept)
	if err != nil || len(rec.Body) < 2 {
		return keep(err, fault.New(fault.Internal, "interaction.duplicate", "an idempotency document of no known form"))
	}
	made := plan.Key{Type: plan.Type(rec.Body[0])<<8 | plan.Type(rec.Body[1]), ID: string(rec.Body[2:])}
	_, shown, err := s.current(ctx, view, made, search.Read)
	if err != nil {
		return err
	}
	if !shown {
		return &DuplicateKey{}
	}
	return &DuplicateKey{Location: s.Registry.Name(made.Type) + "/" + made.ID}
}
