package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"sync"
)

// net/http writes an answer through a buffer of 4 KiB, so that one that is longer
// goes to the system in two pieces, and wakes its client twice. A Conn can hold
// what is written until there is all of it. That also keeps most answers back
// until audit has recorded them.

// heldMax is how much of an answer is held, in bytes. What is longer goes out
// with what is held, in one call.
const heldMax = 16 << 10

// conn is a client's connection.
type conn struct {
	net.Conn

	mu      sync.Mutex // TLS writes while it reads, too
	holding bool
	held    []byte
}

// Write holds p, or sends it behind what is held.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holding && len(c.held)+len(p) <= heldMax {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	if len(c.held) == 0 {
		return c.Conn.Write(p)
	}
	first := len(c.held)
	pieces := net.Buffers{c.held, p}
	c.held = c.held[:0]
	n, err := pieces.WriteTo(c.Conn)
	return max(0, int(n)-first), err
}

// CloseWrite ends what this side sends: net/http does so before it closes a
// connection whose client may still be sending.
func (c *conn) CloseWrite() error {
	if one, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return one.CloseWrite()
	}
	return nil
}

// hold begins to hold what is written.
func (c *conn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = true
}

// holds reports whether something is held.
func (c *conn) holds() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held) > 0
}

// release sends what is held, and holds no more.
func (c *conn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.holding = false
	if len(c.held) == 0 {
		return nil
	}
	_, err := c.Conn.Write(c.held)
	c.held = c.held[:0]
	return err
}

// listener gives connections that can hold what is written.
type listener struct{ net.Listener }

// Accept implements net.Listener.
func (l listener) Accept() (net.Conn, error) {
	one, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: one}, nil
}

// Listener is where an http.Server of this package's handler best listens, with
// ConnContext; over others the handler works all the same.
func Listener(l net.Listener) net.Listener { return listener{l} }

type connKey struct{}

// ConnContext is for http.Server.ConnContext: it lets the handler find its
// connection.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	if held, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, held)
	}
	return ctx
}

// gather holds the connection while an answer is written that comes in one piece
// of n bytes; others, and HTTP/2, whose frames others write too, go out as they
// come.
func (a *answer) gather(n int) {
	if a.conn != nil || a.r.ProtoMajor != 1 || a.Header().Get("Content-Length") != strconv.Itoa(n) {
		return
	}
	if c, ok := a.r.Context().Value(connKey{}).(*conn); ok {
		c.hold()
		a.conn = c
	}
}

// release sends what was held. An error is one of the connection: net/http meets
// it too.
func (a *answer) release() {
	if a.conn == nil {
		return
	}
	if a.conn.holds() { // else net/http has all of it, and writes it in one piece
		_ = http.NewResponseController(a.ResponseWriter).Flush()
	}
	_ = a.conn.release()
}
