// Package process runs the built binary and talks to it as a stranger would:
// over its address, with signed requests, and with signals.
//
//	Build   go build ./cmd/tarn → an executable
//	Main    a package's tests, with a folder and a binary they share
//	Start   executable + data folder → Server, which answers /readyz
//	Server  Stop (SIGTERM), Kill (SIGKILL), Log, Resident, Peak, CPU, Waited
//	Client  signed requests of both planes
//
// A Server's address is picked by the kernel at the first start; Restart keeps
// it, so that links given out before a crash work after it.
//
//	err := process.Build(ctx, "/tmp/tarn")
//	s, err := process.Start(ctx, process.Options{Binary: "/tmp/tarn", Data: dir})
//	defer s.Kill()
//	err = s.Client().Control(ctx, "ListFHIRDatastores", map[string]any{}, &answer)
package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tarn-fhir/tarn/internal/testpath"
)

// Build compiles cmd/tarn of this checkout to an executable, without cgo, as it
// is shipped.
//
// It looks at every source file: `go test` notes what a test looks at, and so
// does not give a cached result once the server has changed.
func Build(ctx context.Context, executable string) error {
	for _, folder := range []string{"cmd", "internal"} {
		if err := look(filepath.Join(testpath.Root(), folder)); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", executable, "./cmd/tarn")
	build.Dir = testpath.Root()
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building cmd/tarn: %w\n%s", err, out)
	}
	return nil
}

// look asks for the size and time of each file and folder below a folder.
func look(folder string) error {
	return filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			_, err = os.Stat(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone since the folder was read
		}
		return err
	})
}

// Options say which server to start.
type Options struct {
	Binary string
	Data   string   // data folder
	Listen string   // address; empty: one the kernel picks, on loopback
	Flags  []string // more flags of tarn serve
	Env    []string // more of the environment, NAME=value
}

// Server is a running server.
type Server struct {
	Options
	URL     string // "http://127.0.0.1:40123", no slash at the end
	command *exec.Cmd
	log     *buffer
	ended   chan struct{}
	result  error // of the process, once ended is closed
}

// How long a server may take to say hello, to be ready and to go: far beyond what
// it takes, as the machine may be busy. bindPoll is how often an address that
// another holds is tried again.
const (
	startTimeout = 3 * time.Minute
	stopTimeout  = 3 * time.Minute
	readyPoll    = 5 * time.Millisecond
	bindPoll     = 50 * time.Millisecond
)

// Start starts a server and waits until it is ready. Where its address is taken
// it tries again: with another address when it may choose, else with the same
// one, which a server that was killed a moment ago has lost for a while to
// whoever else asked the kernel for a port.
func Start(ctx context.Context, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		s, err := startOnce(ctx, o)
		if err == nil || !strings.Contains(err.Error(), "address already in use") {
			return s, err
		}
		select {
		case <-time.After(bindPoll):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func startOnce(ctx context.Context, o Options) (*Server, error) {
	if o.Listen == "" {
		var err error
		if o.Listen, err = FreeAddress(ctx); err != nil {
			return nil, err
		}
	}
	args := append([]string{"serve", "--listen", o.Listen, "--data", o.Data}, o.Flags...)
	// ctx bounds the start, the server runs on.
	command := exec.CommandContext(context.WithoutCancel(ctx), o.Binary, args...)
	s := &Server{Options: o, command: command, log: &buffer{}, ended: make(chan struct{})}
	s.command.Env = append(cleanEnvironment(), o.Env...)
	s.command.Stderr = s.log
	stdout, err := s.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.command.Start(); err != nil {
		return nil, err
	}
	greeted := make(chan string, 1)
	go s.watch(stdout, greeted)
	if err := s.awaitReady(ctx, greeted); err != nil {
		return nil, errors.Join(err, s.Kill(), fmt.Errorf("its log:\n%s", s.Log()))
	}
	return s, nil
}

// cleanEnvironment is this process's environment without what would configure
// Tarn or an AWS client.
func cleanEnvironment() []string {
	var kept []string
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "TARN_") && !strings.HasPrefix(pair, "AWS_") {
			kept = append(kept, pair)
		}
	}
	return kept
}

// watch reads what the server prints until it ends; the first line holds its
// address.
func (s *Server) watch(stdout io.Reader, greeted chan<- string) {
	defer close(s.ended)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if _, at, found := strings.Cut(lines.Text(), " answers at "); found {
			select {
			case greeted <- at:
			default:
			}
		}
	}
	s.result = s.command.Wait()
}

func (s *Server) awaitReady(ctx context.Context, greeted <-chan string) error {
	select {
	case s.URL = <-greeted:
	case <-s.ended:
		return fmt.Errorf("the server ended at once: %w", s.result)
	case <-ctx.Done():
		return fmt.Errorf("the server did not say hello: %w", ctx.Err())
	}
	if err := s.locate(); err != nil {
		return err
	}
	for {
		if s.isReady(ctx) {
			return nil
		}
		select {
		case <-time.After(readyPoll):
		case <-s.ended:
			return fmt.Errorf("the server ended before it was ready: %w", s.result)
		case <-ctx.Done():
			return fmt.Errorf("the server did not become ready: %w", ctx.Err())
		}
	}
}

// isReady asks once.
func (s *Server) isReady(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/readyz", nil)
	if err != nil {
		return false
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return answer.Body.Close() == nil && answer.StatusCode == http.StatusOK
}

// locate settles where the server is: where it was told to listen, else where it
// says it does (the greeting names the public URL, which may be another).
func (s *Server) locate() error {
	if !strings.HasSuffix(s.Listen, ":0") {
		s.URL = "http://" + s.Listen
		return nil
	}
	address, err := url.Parse(s.URL)
	if err != nil {
		return fmt.Errorf("the greeting holds no URL: %w", err)
	}
	s.Listen = address.Host
	return nil
}

// The ports that FreeAddress draws from: below those that Linux gives to clients
// (ip_local_port_range begins at 32768), so that no connection of a test takes a
// server's port while the server is down.
const (
	lowestPort  = 15000
	highestPort = 32000
)

// FreeAddress is a loopback address on which nobody listens now.
func FreeAddress(ctx context.Context) (string, error) {
	for {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(lowestPort+rand.IntN(highestPort-lowestPort)))
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			return address, listener.Close()
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			return "", err
		}
	}
}

// Restart starts the server again, on the same data and address. It must have
// ended.
func (s *Server) Restart(ctx context.Context) (*Server, error) {
	return Start(ctx, s.Options)
}

// PID is the process id.
func (s *Server) PID() int { return s.command.Process.Pid }

// Signal sends a signal.
func (s *Server) Signal(sig os.Signal) error { return s.command.Process.Signal(sig) }

// Ended is closed once the process has ended.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Stop asks the server to end and waits until it has; the error says that it
// took too long or did not exit with status 0.
func (s *Server) Stop() error {
	if err := s.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		return s.result
	case <-time.After(stopTimeout):
		return errors.Join(errors.New("the server did not end"), s.Kill())
	}
}

// Kill ends the server as a crash would (SIGKILL), and waits until it is gone.
// A server that has ended is no error.
func (s *Server) Kill() error {
	if err := s.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-s.ended
	return nil
}

// Log is what the server has logged.
func (s *Server) Log() string { return s.log.String() }

// Resident is the memory that the process holds, in bytes.
func (s *Server) Resident() (int64, error) { return s.memory("VmRSS:") }

// Peak is the most memory that the process ever held, in bytes.
func (s *Server) Peak() (int64, error) { return s.memory("VmHWM:") }

// memory reads a line of the process's status (proc(5)), in bytes.
func (s *Server) memory(what string) (int64, error) {
	raw, err := os.ReadFile(s.proc("status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if rest, found := strings.CutPrefix(line, what); found {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("no " + what + " in the process's status")
}

// CPU is the processor time that the process has used, in user and kernel mode.
func (s *Server) CPU() (time.Duration, error) { return CPUOf(s.PID()) }

// Waited is how long the process's threads were ready to run while all cores were
// busy, as far as the threads are still there (/proc/PID/schedstat).
func (s *Server) Waited() (waited time.Duration, err error) {
	threads, err := filepath.Glob(s.proc("task/*/schedstat"))
	if err != nil {
		return 0, err
	}
	for _, path := range threads {
		raw, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // ended since
		}
		if err != nil {
			return 0, err
		}
		var ran, waiting int64
		if _, err := fmt.Sscan(string(raw), &ran, &waiting); err != nil {
			return 0, err
		}
		waited += time.Duration(waiting)
	}
	return waited, nil
}

// CPUOf is the processor time that a process has used, in user and kernel mode,
// to the nanosecond: the clock that clock_getcpuclockid(3) names, ~pid << 3 | 2.
func CPUOf(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var used unix.Timespec
	err := unix.ClockGettime(int32(^pid<<3|scheduled), &used)
	return time.Duration(used.Nano()), err
}

func (s *Server) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(s.PID()), file)
}

// buffer keeps what is written to it.
type buffer struct {
	mu   sync.Mutex
	text []byte
}

// Write appends.
func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.text = append(b.text, p...)
	return len(p), nil
}

// String copies.
func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.text)
}
