package interaction

import (
	"context"
	"strconv"

	"github.com/tarn-fhir/tarn/internal/search"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
)

// Read gives the current version (R4 http.html#read); fault.Gone for a deleted
// resource.
func (s *Session) Read(ctx context.Context, typ, id string) (*Version, error) {
	key, err := s.key(typ, id)
	if err != nil {
		return nil, err
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	return s.readIn(ctx, view, key)
}

func (s *Session) readIn(ctx context.Context, view store.View, key plan.Key) (*Version, error) {
	rec, ok, err := s.current(ctx, view, key, search.Read)
	if err != nil {
		return nil, err
	}
	return s.given(rec, ok, s.Registry.Name(key.Type), key.ID)
}

// given hands out what a read found.
func (s *Session) given(rec store.Record, ok bool, typ, id string) (*Version, error) {
	if !ok {
		return nil, notFound(typ, id)
	}
	s.touch(rec)
	if rec.Deleted {
		return nil, gone(typ, id)
	}
	return s.version(rec), nil
}

// Vread gives one version (R4 http.html#vread).
func (s *Session) Vread(ctx context.Context, typ, id, version string) (*Version, error) {
	key, err := s.key(typ, id)
	if err != nil {
		return nil, err
	}
	path := id + "/_history/" + version
	number, ok := parseVersion(version)
	if !ok {
		return nil, notFound(typ, path)
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	rec, ok, err := s.shown(ctx, view, key, search.Read, func() (store.Record, error) { return view.GetVersion(ctx, key, number) })
	if err != nil {
		return nil, err
	}
	return s.given(rec, ok, typ, path)
}

// parseVersion reads a version id: a number from 1, as formatVersion writes it.
func parseVersion(text string) (uint64, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return n, err == nil && n > 0 && formatVersion(n) == text
}

func formatVersion(n uint64) string { return strconv.FormatUint(n, 10) }
