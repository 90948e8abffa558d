package blob

import (
	"context"
	"io"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// cleanTimeout bounds what is tidied up behind an upload that failed.
const cleanTimeout = 30 * time.Second

// parallel reads an object in order while the next pieces are fetched.
type parallel struct {
	cancel context.CancelFunc
	queue  chan chan piece // in the object's order; closed behind the last
	left   int64           // bytes that are still to come
	now    []byte
	err    error // io.EOF at the end
}

// piece is one range's bytes.
type piece struct {
	data []byte
	err  error
}

// newParallel reads the bytes r.Offset ≤ i < r.Size by fetch, pieces at a time.
func newParallel(ctx context.Context, r Read, fetch func(ctx context.Context, from, to int64) ([]byte, error)) *parallel {
	ctx, cancel := context.WithCancel(ctx)
	p := &parallel{cancel: cancel, queue: make(chan chan piece, pieces-1), left: r.Size - r.Offset}
	go func() {
		defer close(p.queue)
		for from := r.Offset; from < r.Size; from += pieceBytes {
			to := min(from+pieceBytes, r.Size)
			coming := make(chan piece, 1)
			select {
			case p.queue <- coming:
			case <-ctx.Done():
				return
			}
			go func() {
				data, err := fetch(ctx, from, to)
				coming <- piece{data, err}
			}()
		}
	}()
	return p
}

// Read implements io.Reader.
func (p *parallel) Read(b []byte) (int, error) {
	for len(p.now) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		coming, more := <-p.queue
		if !more {
			p.err = p.end()
			continue
		}
		got := <-coming
		p.now, p.err = got.data, got.err
		p.left -= int64(len(got.data))
		if got.err != nil {
			p.now = nil
			p.cancel()
		}
	}
	n := copy(b, p.now)
	p.now = p.now[n:]
	return n, nil
}

// end is what comes behind the last piece: io.EOF, unless the reading was called
// off before it.
func (p *parallel) end() error {
	if p.left > 0 {
		return &fault.Error{Kind: fault.Canceled, Op: "blob.Read"}
	}
	return io.EOF
}

// Close implements io.Closer: what is on its way is called back.
func (p *parallel) Close() error {
	p.cancel()
	for range p.queue { // until the feeder has gone
	}
	p.err = io.ErrClosedPipe
	return nil
}
