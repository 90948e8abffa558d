package gateway

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// A client that sends all of a body that is too large before it reads, with its
// length told before or not, gets the refusal and no broken connection.
func TestTooLargeIsAnswered(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := readBody(w, r, 1<<20); fault.Is(err, fault.TooLarge) {
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		}
	}))
	defer server.Close()
	const size = 64 << 20 // more than any socket buffers
	for name, head := range map[string]string{
		"length":  fmt.Sprintf("Content-Length: %d\r\n\r\n", size),
		"chunked": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size),
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for _, part := range [][]byte{[]byte("POST / HTTP/1.1\r\nHost: tarn.example\r\n" + head), make([]byte, size), []byte("\r\n0\r\n\r\n")} {
				if _, err := conn.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("got %s", answer.Status)
			}
		})
	}
}
