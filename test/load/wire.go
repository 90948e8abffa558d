package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
)

// Clients and server share the processors, so that what a client spends is taken
// from the server. Requests are therefore signed and written out as bytes before
// the clock runs, and a client only writes bytes to a connection that it keeps,
// and reads the answer as far as it must to find its end.

// wireBuffer is what a connection reads at once, in bytes: most answers whole.
const wireBuffer = 64 << 10

// wire is one connection of one client.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
}

// dial connects to the server of a URL.
func dial(ctx context.Context, server *url.URL) (*wire, error) {
	address := server.Host
	if server.Port() == "" {
		address = net.JoinHostPort(server.Hostname(), map[string]string{"http": "80", "https": "443"}[server.Scheme])
	}
	conn, err := dialer(server.Scheme).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, in: bufio.NewReaderSize(conn, wireBuffer)}, nil
}

func dialer(scheme string) interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
} {
	if scheme == "https" {
		return &tls.Dialer{}
	}
	return &net.Dialer{}
}

func (w *wire) close() error { return w.conn.Close() }

// exchange sends a request and reads the answer: its status and body, which is
// kept only when the status is not the wanted one.
func (w *wire) exchange(request []byte, wanted int) (status int, body []byte, err error) {
	if _, err := w.conn.Write(request); err != nil {
		return 0, nil, err
	}
	status, length, err := w.head()
	if err != nil {
		return 0, nil, err
	}
	content := io.LimitReader(w.in, length)
	if length < 0 {
		content = httputil.NewChunkedReader(w.in)
	}
	switch {
	case status != wanted:
		body, err = io.ReadAll(content)
	case length < 0:
		_, err = io.Copy(io.Discard, content)
	default:
		_, err = w.in.Discard(int(length))
	}
	if err == nil && length < 0 {
		err = w.skipTrailer()
	}
	return status, body, err
}

// head reads status line and header; length is -1 for a body in chunks.
func (w *wire) head() (status int, length int64, err error) {
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, 0, fmt.Errorf("no status line: %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, fmt.Errorf("no status line: %q", line)
	}
	for {
		if line, err = w.in.ReadSlice('\n'); err != nil {
			return 0, 0, err
		}
		name, value, more := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(":"))
		switch {
		case !more && len(name) == 0:
			return status, length, nil
		case isHeader(name, "content-length"):
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return 0, 0, err
			}
		case isHeader(name, "transfer-encoding"):
			length = -1
		case isHeader(name, "connection") && strings.EqualFold(string(bytes.TrimSpace(value)), "close"):
			return 0, 0, errors.New("the server does not keep the connection")
		}
	}
}

func isHeader(name []byte, want string) bool {
	return len(name) == len(want) && bytes.EqualFold(name, []byte(want))
}

// skipTrailer reads what stands behind the last chunk.
func (w *wire) skipTrailer() error {
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil || len(bytes.TrimRight(line, "\r\n")) == 0 {
			return err
		}
	}
}
