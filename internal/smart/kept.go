package smart

import (
	"container/list"
	"sync"
	"time"
)

// kept is a bounded memory of values, each until its own time; beyond the bound
// the one that was not used for longest goes.
type kept[K comparable, V any] struct {
	max int

	mu    sync.Mutex
	byKey map[K]*list.Element // of *keptItem[K, V]
	used  list.List           // latest first
}

type keptItem[K comparable, V any] struct {
	key   K
	value V
	until time.Time
}

func newKept[K comparable, V any](max int) *kept[K, V] {
	return &kept[K, V]{max: max, byKey: map[K]*list.Element{}}
}

// get gives a value whose time has not come.
func (k *kept[K, V]) get(key K, now time.Time) (V, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var none V
	e, ok := k.byKey[key]
	if !ok {
		return none, false
	}
	item := e.Value.(*keptItem[K, V])
	if !now.Before(item.until) {
		k.drop(e)
		return none, false
	}
	k.used.MoveToFront(e)
	return item.value, true
}

func (k *kept[K, V]) put(key K, value V, until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.byKey[key]; ok {
		k.drop(e)
	}
	if len(k.byKey) >= k.max {
		k.drop(k.used.Back())
	}
	k.byKey[key] = k.used.PushFront(&keptItem[K, V]{key, value, until})
}

func (k *kept[K, V]) forget(key K) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if e, ok := k.byKey[key]; ok {
		k.drop(e)
	}
}

func (k *kept[K, V]) drop(e *list.Element) {
	delete(k.byKey, k.used.Remove(e).(*keptItem[K, V]).key)
}

func (k *kept[K, V]) len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.byKey)
}
