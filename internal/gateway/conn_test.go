package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync/atomic"
	"testing"
)

// writes counts what reaches the system, by Write and by net.Buffers alike.
type writes struct {
	net.Conn
	n *atomic.Int64
}

func (w writes) Write(p []byte) (int, error) { w.n.Add(1); return w.Conn.Write(p) }

type counted struct {
	net.Listener
	n *atomic.Int64
}

func (l counted) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return writes{c, l.n}, err
}

// holding answers with what the URL asks for, through an answer.
func holding(recorded func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w, r: r}
		defer a.release()
		defer recorded()
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		body := bytes.Repeat([]byte{'x'}, size)
		if !r.URL.Query().Has("unsized") {
			a.Header().Set("Content-Length", strconv.Itoa(size))
		}
		_, _ = a.Write(body)
	})
}

func serveHolding(t *testing.T, secure bool, recorded func()) (*httptest.Server, *atomic.Int64) {
	t.Helper()
	n := new(atomic.Int64)
	server := httptest.NewUnstartedServer(holding(recorded))
	server.Listener = Listener(counted{server.Listener, n})
	server.Config.ConnContext = ConnContext
	if secure {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	return server, n
}

// An answer that is short enough goes to the system in one piece, and every
// answer comes whole, one after the other on one connection.
func TestAnswersInOnePiece(t *testing.T) {
	server, n := serveHolding(t, false, func() {})
	for _, size := range []int{0, 1, 3000, 3800, 3900, 4000, 4095, 4096, 4097, 8000, 12_000, 15_000, heldMax - 200, heldMax, 70_000, 1 << 20} {
		for _, unsized := range []string{"", "&unsized"} {
			before := n.Load()
			answer, err := server.Client().Get(fmt.Sprintf("%s/?size=%d%s", server.URL, size, unsized))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(answer.Body)
			if err = errorsOr(err, answer.Body.Close()); err != nil || len(body) != size {
				t.Fatalf("%d bytes%s: got %d, %v", size, unsized, len(body), err)
			}
			if made := n.Load() - before; unsized == "" && size < heldMax-1000 && made != 1 {
				t.Errorf("%d bytes in %d pieces", size, made)
			}
		}
	}
}

func errorsOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// Nothing of an answer that is held reaches its client before it is recorded.
func TestHeldUntilRecorded(t *testing.T) {
	for _, size := range []int{0, 3000, 5000, 15_000} {
		var early, sent atomic.Pointer[atomic.Int64]
		server, n := serveHolding(t, false, func() { now := new(atomic.Int64); now.Store(sent.Load().Load()); early.Store(now) })
		sent.Store(n)
		answer, err := server.Client().Get(fmt.Sprintf("%s/?size=%d", server.URL, size))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		if err = errorsOr(err, answer.Body.Close()); err != nil || early.Load().Load() != 0 {
			t.Errorf("%d bytes: %d pieces went out before it was recorded, %v", size, early.Load().Load(), err)
		}
	}
}

// Over TLS, with HTTP/1 and HTTP/2, answers are whole as well.
func TestHeldOverTLS(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		server, _ := serveHolding(t, true, func() {})
		client := server.Client()
		if !h2 {
			server.TLS.NextProtos = []string{"http/1.1"}
		}
		for _, size := range []int{10, 5000, 40_000, 1 << 20} {
			answer, err := client.Get(fmt.Sprintf("%s/?size=%d", server.URL, size))
			if err != nil {
				t.Fatal(err)
			}
			if h2 != (answer.ProtoMajor == 2) {
				t.Fatalf("HTTP/2 %v, got %s", h2, answer.Proto)
			}
			got, err := io.Copy(io.Discard, answer.Body)
			if err = errorsOr(err, answer.Body.Close()); err != nil || got != int64(size) {
				t.Errorf("HTTP/2 %v, %d bytes: %d, %v", h2, size, got, err)
			}
		}
	}
}

// A listener of others has no such connections, and the context stays as it is.
func TestConnContextOfOthers(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if ctx := ConnContext(context.Background(), a); ctx.Value(connKey{}) != nil {
		t.Error("a connection was kept")
	}
}
