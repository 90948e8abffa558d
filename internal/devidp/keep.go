package devidp

import (
	"encoding/hex"
	"io"
	"time"
)

// secretBytes is the length of a code or token that must not be guessed.
const secretBytes = 32

// secret makes one, in digits and letters only, so that as an argument of a
// command it is never taken for an option.
func (s *Server) secret() (string, error) {
	raw := make([]byte, secretBytes)
	_, err := io.ReadFull(s.Random, raw)
	return hex.EncodeToString(raw), err
}

// keep puts a value away under a key; what is out of date goes, and at the bound
// the one that ends first.
func keep[V any](all map[string]V, key string, v V, until func(V) time.Time, now time.Time) {
	oldest := ""
	for k, other := range all {
		if !now.Before(until(other)) {
			delete(all, k)
			continue
		}
		if oldest == "" || until(other).Before(until(all[oldest])) {
			oldest = k
		}
	}
	if len(all) >= maxKept {
		delete(all, oldest)
	}
	all[key] = v
}

// give keeps a grant under a new secret.
func (s *Server) give(in map[string]grant, g grant, lasts time.Duration) (string, error) {
	key, err := s.secret()
	if err != nil {
		return "", err
	}
	now := s.Clock()
	g.Until = now.Add(lasts)
	s.mu.Lock()
	defer s.mu.Unlock()
	keep(in, key, g, func(g grant) time.Time { return g.Until }, now)
	return key, nil
}

// take gives a grant once.
func (s *Server) take(in map[string]grant, key string) (grant, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := in[key]
	delete(in, key)
	return g, ok && s.Clock().Before(g.Until)
}

// clientLife is how long a registration that is not renewed counts.
const clientLife = 30 * 24 * time.Hour

func (s *Server) addClient(c client) (string, error) {
	id, err := s.secret()
	if err != nil {
		return "", err
	}
	c.Made = s.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	keep(s.clients, id, c, func(c client) time.Time { return c.Made.Add(clientLife) }, c.Made)
	return id, nil
}

func (s *Server) client(id string) (client, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.clients[id]
	return c, ok
}

// firstUse reports whether an assertion's id comes for the first time.
func (s *Server) firstUse(id string, until time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, seen := s.assertions[id]; seen {
		return false
	}
	keep(s.assertions, id, until, func(t time.Time) time.Time { return t }, s.Clock())
	return true
}
