package interaction

import (
	"context"
	"strconv"

	"github.com/tarn-fhir/tarn/internal/fault"
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
	rec, err := s.visible(ctx, view, key, search.Read)
	if err != nil {
		return nil, err
	}
	s.touch(rec)
	if rec.Deleted {
		return nil, gone(s.Registry.Name(key.Type), key.ID)
	}
	return s.version(rec), nil
}

// Vread gives one version (R4 http.html#vread).
func (s *Session) Vread(ctx context.Context, typ, id, version string) (*Version, error) {
	key, err := s.key(typ, id)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(version, 10, 64)
	if err != nil || number == 0 || version[0] == '+' {
		return nil, notFound(typ, id+"/_history/"+version)
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	where, ok := s.Grant.Where(key.Type, search.Read)
	if !ok {
		return nil, notFound(typ, id)
	}
	rec, err := view.GetVersion(ctx, key, number)
	if fault.Is(err, fault.NotFound) {
		return nil, notFound(typ, id+"/_history/"+version)
	}
	if err == nil && where != nil {
		err = s.shown(ctx, view, rec, where)
	}
	if err != nil {
		return nil, err
	}
	s.touch(rec)
	if rec.Deleted {
		return nil, gone(typ, id+"/_history/"+version)
	}
	return s.version(rec), nil
}

func formatVersion(n uint64) string { return strconv.FormatUint(n, 10) }
