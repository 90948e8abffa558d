package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateEvery bounds how often the files of a certificate are looked at.
const certificateEvery = time.Second

// certificate is a certificate with its key, read again when its files change.
type certificate struct {
	cert, key string // paths
	clock     func() time.Time
	log       *slog.Logger

	mu    sync.Mutex
	next  time.Time
	stats [2]fs.FileInfo
	pair  *tls.Certificate
}

// secure gives the settings of TLS; nil without a certificate.
func (c *serveCommand) secure(log *slog.Logger) (*tls.Config, error) {
	if c.TLSCert == "" && c.TLSKey == "" {
		if !isLoopback(c.Listen) {
			log.Warn("requests and answers travel in the clear: give --tls-cert and --tls-key, or put a proxy that ends TLS in front", "listen", c.Listen)
		}
		return nil, nil
	}
	if c.TLSCert == "" || c.TLSKey == "" {
		return nil, errors.New("--tls-cert and --tls-key go together")
	}
	watched := &certificate{cert: c.TLSCert, key: c.TLSKey, clock: time.Now, log: log}
	if err := watched.read(); err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: watched.get, NextProtos: []string{"h2", "http/1.1"}}, nil
}

// get gives the certificate for a handshake; one that cannot be read leaves the
// one before in place.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock()
	if now.Before(c.next) {
		return c.pair, nil
	}
	c.next = now.Add(certificateEvery)
	stats, err := c.look()
	if err != nil || same(stats, c.stats) {
		return c.pair, nil
	}
	if err := c.read(); err != nil {
		c.stats = stats // told once
		c.log.Error("the changed certificate is refused; the one before stays in use", "error", err)
		return c.pair, nil
	}
	c.log.Info("the changed certificate is in use", "file", c.cert)
	return c.pair, nil
}

func (c *certificate) look() (stats [2]fs.FileInfo, err error) {
	for i, path := range [2]string{c.cert, c.key} {
		if stats[i], err = os.Stat(path); err != nil {
			return stats, err
		}
	}
	return stats, nil
}

func same(a, b [2]fs.FileInfo) bool {
	for i := range a {
		if !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()) {
			return false
		}
	}
	return true
}

// read reads both files; the caller holds the lock, or is alone.
func (c *certificate) read() error {
	stats, err := c.look()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.pair, c.stats = &pair, stats
	return nil
}
