package main

import "testing"

// The development authorization server is never where others could reach it.
func TestDevIDPIsForLoopback(t *testing.T) {
	for listen, ok := range map[string]bool{
		"127.0.0.1:8080": true, "[::1]:0": true, "localhost:80": true, "0.0.0.0:8080": false, ":8080": false, "192.168.1.2:80": false, "example.org:80": false, "nonsense": false,
	} {
		c := &serveCommand{Listen: listen, DevIDP: true}
		if err := c.checkDevIDP(); (err == nil) != ok {
			t.Errorf("%s: %v", listen, err)
		}
		c.DevIDP = false
		if err := c.checkDevIDP(); err != nil {
			t.Errorf("%s without it: %v", listen, err)
		}
	}
}
