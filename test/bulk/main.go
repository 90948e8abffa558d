// Command bulk measures imports and exports of a server that it starts, on the
// machine at hand, and what requests feel beside them.
//
//	go run ./test/bulk                           the patients in the binary
//	go run ./test/bulk -synthea DIR -times 10    a folder of Synthea's output, ten times over with other ids
//	go run ./test/bulk -what beside              reads and creates at a steady rate beside an import
//	go run ./test/bulk -what jobs -against URL   beside another FHIR server, with the headers that -header names
//
// It prints, for an import at each level from local NDJSON, a file a resource
// type, and for an export of the whole store to a folder: the time from request
// to COMPLETED, resources a second, processor time of the server for each, how
// many cores were busy with it, and how many it would have kept busy had the
// machine nothing else to do (threads that ran or were ready to), and the most
// memory that the server ever held. Requests beside an import are timed from the
// moment at which each was due. Another server gets the same resources by batches
// of PUT, and its $export is timed until the manifest is there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
	"github.com/tarn-fhir/tarn/test/peer"
)

// bench is the measurement: the command line, and what was started for it.
type bench struct {
	binary string
	what   string
	dir    string // of Synthea's output; empty: the patients in the binary
	times  int
	level  string
	rest   time.Duration // how long requests are measured beside nothing

	against string // another server's base URL, or none
	header  peer.Headers

	source synthea.Source
	folder string // that jobs may read and write
	server *process.Server
	client *process.Client
}

func main() {
	var b bench
	flag.StringVar(&b.binary, "binary", "", "start this executable instead of one built from the checkout")
	flag.StringVar(&b.what, "what", "jobs,beside", "what to measure, by commas")
	flag.StringVar(&b.dir, "synthea", "", "import this folder of Synthea's output instead of the patients in the binary")
	flag.IntVar(&b.times, "times", 1, "import the patients so often, with other ids each time")
	flag.StringVar(&b.level, "level", "", "import at this level only")
	flag.DurationVar(&b.rest, "rest", 5*time.Second, "how long requests are measured beside nothing")
	flag.StringVar(&b.against, "against", "", "base URL of another FHIR server, which is filled with the same resources and asked for an export")
	flag.Var(&b.header, "header", "header for the other server, as in 'Authorization: Basic …'; may be repeated")
	flag.Parse()
	err := b.check()
	if err == nil {
		// A server that was started ends with the measurement, also where nobody reads on.
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
		defer stop()
		err = b.run(ctx, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bulk:", err)
		os.Exit(1)
	}
}

// check refuses what would measure nothing.
func (b *bench) check() error {
	for _, part := range strings.Split(b.what, ",") {
		if part != "jobs" && part != "beside" {
			return fmt.Errorf("-what: %q is neither jobs nor beside", part)
		}
	}
	if b.times < 1 {
		return errors.New("-times: at least one")
	}
	return nil
}

// run starts the server and measures.
func (b *bench) run(ctx context.Context, out io.Writer) (err error) {
	b.source = synthea.Embedded()
	if b.dir != "" {
		if b.source, err = synthea.Dir(b.dir); err != nil {
			return err
		}
	}
	if b.folder, err = os.MkdirTemp("", "tarn-bulk-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.folder)) }()
	if b.binary == "" {
		b.binary = filepath.Join(b.folder, "tarn")
		if err := process.Build(ctx, b.binary); err != nil {
			return err
		}
	}
	b.server, err = process.Start(ctx, process.Options{
		Binary: b.binary, Data: filepath.Join(b.folder, "data"), Flags: []string{"--log-level", "error", "--file-dir", b.folder},
	})
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.server.Stop())
		if log := b.server.Log(); err != nil && log != "" {
			err = fmt.Errorf("%w\nthe server's log:\n%s", err, log)
		}
	}()
	if b.client, err = b.server.Client(); err != nil {
		return err
	}
	parts := strings.Split(b.what, ",")
	if slices.Contains(parts, "jobs") {
		if err := b.bulk(ctx, out); err != nil {
			return err
		}
	}
	if slices.Contains(parts, "beside") {
		return b.beside(ctx, out)
	}
	return nil
}

// levels are those that imports are measured at.
func (b *bench) levels() []string {
	if b.level != "" {
		return []string{b.level}
	}
	return []string{"minimal", "structure-only", "strict"}
}

// store makes a data store, with the binary's patients when asked, and gives its
// id.
func (b *bench) store(ctx context.Context, members map[string]any) (string, error) {
	made, err := b.client.Create(ctx, members)
	if err != nil {
		return "", err
	}
	_, err = b.client.Await(ctx, made.DatastoreID, "ACTIVE")
	return made.DatastoreID, err
}
