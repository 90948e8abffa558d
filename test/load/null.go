package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// The null server is what HTTP alone costs with these clients: it reads a
// request's body, checks nothing, keeps nothing, and answers what it was given.

// nullRead is what it answers to a read: about a Patient of the Synthea set.
var nullRead = []byte(`{"resourceType":"Patient","text":{"div":"` + strings.Repeat("x", 3000) + `"}}`)

// serveNull is the child: it prints its URL and serves until its input ends.
func serveNull(ctx context.Context, in io.Reader, out io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: http.HandlerFunc(answerNothing), ReadHeaderTimeout: time.Minute}
	go func() {
		_, _ = io.Copy(io.Discard, in) // ends when the parent closes it, or ends
		_ = server.Close()
	}()
	if _, err := fmt.Fprintf(out, "http://%s\n", listener.Addr()); err != nil {
		return err
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func answerNothing(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/fhir+json")
	if r.Method == http.MethodPost {
		w.Header().Set("Location", r.URL.Path+"/1")
		w.WriteHeader(http.StatusCreated)
		return
	}
	_, _ = w.Write(append(body, nullRead...)) // a client that is gone needs no answer
}

// null is the child as its parent sees it.
type null struct {
	*target
	command *exec.Cmd
	in      io.Closer
}

func startNull(ctx context.Context) (*null, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, "-serve-null")
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	url, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(err, in.Close(), command.Wait())
	}
	key := aws.Credentials{AccessKeyID: "AKIANULL", SecretAccessKey: "null"}
	t := &target{client: process.NewClient(strings.TrimSpace(url), key), used: func() (time.Duration, error) { return process.CPUOf(command.Process.Pid) }}
	return &null{t, command, in}, nil
}

func (n *null) stop() error { return errors.Join(n.in.Close(), n.command.Wait()) }

// nullOperations are the requests that are sent to it: a create and a read.
func nullOperations() []operation {
	all := operations("null")
	read := all[1]
	read.prepare = nil
	read.request = func(t *target, _ *rand.Rand) process.Request {
		return process.Request{Method: http.MethodGet, URL: t.client.Base("null") + "/Patient/1"}
	}
	all[0].name, read.name = "null create", "null read"
	return []operation{all[0], read}
}
