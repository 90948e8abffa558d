package sigv4

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"hash"
	"sync"
)

// signingKeysMax bounds the signing keys that are kept: one for each access key
// and day, about 300 bytes each.
const signingKeysMax = 1024

// nobodysSecret stands in for the secret of an access key that nobody knows, so
// that refusing it takes as long as refusing a wrong signature. It signs
// nothing: judge refuses before it looks at the result.
const nobodysSecret = "no access key has this secret"

// signingKeys keeps the keys that were derived lately; deriving one costs four
// HMACs, most of a verification. The least recently used one goes first.
type signingKeys struct {
	mu   sync.Mutex
	max  int
	used *list.List // of *signingKey, most recently used first
	byID map[signingKeyID]*list.Element
}

type signingKeyID struct {
	accessKeyID, date, region, service string
}

type signingKey struct {
	id     signingKeyID
	secret string // what it was derived from: a rotated secret makes it void
	key    []byte
	macs   sync.Pool // of hash.Hash, keyed: keying one costs two blocks of SHA-256
}

// mac gives a keyed hash; done takes it back.
func (k *signingKey) mac() hash.Hash {
	if kept, ok := k.macs.Get().(hash.Hash); ok {
		kept.Reset()
		return kept
	}
	return hmac.New(sha256.New, k.key)
}

func (k *signingKey) done(mac hash.Hash) { k.macs.Put(mac) }

func newSigningKeys(max int) *signingKeys {
	return &signingKeys{max: max, used: list.New(), byID: make(map[signingKeyID]*list.Element)}
}

// key gives the signing key of a secret for a scope.
func (k *signingKeys) key(accessKeyID, secret, date, region, service string) *signingKey {
	id := signingKeyID{accessKeyID, date, region, service}
	if key := k.kept(id, secret); key != nil {
		return key
	}
	key := &signingKey{id: id, secret: secret, key: deriveKey(secret, date, region, service)}
	k.keep(key)
	return key
}

func (k *signingKeys) kept(id signingKeyID, secret string) *signingKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	element, found := k.byID[id]
	if !found {
		return nil
	}
	entry := element.Value.(*signingKey)
	if subtle.ConstantTimeCompare([]byte(entry.secret), []byte(secret)) != 1 {
		return nil
	}
	k.used.MoveToFront(element)
	return entry
}

func (k *signingKeys) keep(entry *signingKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old, found := k.byID[entry.id]; found {
		k.used.Remove(old)
	}
	k.byID[entry.id] = k.used.PushFront(entry)
	if k.used.Len() > k.max {
		last := k.used.Remove(k.used.Back()).(*signingKey)
		delete(k.byID, last.id)
	}
}

// deriveKey is the chain of the specification ("Calculate the signature").
func deriveKey(secret, date, region, service string) []byte {
	key := []byte("AWS4" + secret)
	for _, step := range [...]string{date, region, service, terminator} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(step))
		key = mac.Sum(nil)
	}
	return key
}
