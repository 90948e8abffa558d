// Command load measures how fast a server carries the main paths, on the
// machine at hand.
//
//	go run ./test/load                         builds, starts and measures one
//	go run ./test/load -binary bin/tarn        starts and measures this one
//	go run ./test/load -url U -credentials F   measures a running one
//
// It prints a table: operations a second, median and 99th percentile at 8, 16
// and 64 clients for creates, reads and searches, the processor time of server
// and clients an operation, the same for a null server, which does nothing but
// HTTP, then the preload's resources a second, bytes on disk a
// resource, and memory. Server and clients share the machine, so that a number
// here is less than what the server alone could do.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
)

// options are the command line.
type options struct {
	binary      string
	url         string
	credentials string
	each        time.Duration
	null        bool // serve nothing, for another load
}

func main() {
	var o options
	flag.StringVar(&o.binary, "binary", "", "start this executable instead of one built from the checkout")
	flag.StringVar(&o.url, "url", "", "measure the server at this URL instead of starting one")
	flag.StringVar(&o.credentials, "credentials", "tarn-data/credentials", "credentials file for -url")
	flag.DurationVar(&o.each, "each", time.Second, "time for each line of the table")
	flag.BoolVar(&o.null, "serve-null", false, "be the null server that others are compared with")
	flag.Parse()
	do := func(ctx context.Context) error { return run(ctx, o, os.Stdout) }
	if o.null {
		do = func(ctx context.Context) error { return serveNull(ctx, os.Stdin, os.Stdout) }
	}
	if err := do(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run starts or finds the server, and measures.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	if o.url != "" {
		key, err := process.Credentials(o.credentials)
		if err != nil {
			return err
		}
		return measure(ctx, &target{client: process.NewClient(o.url, key)}, o, out)
	}
	folder, err := os.MkdirTemp("", "tarn-load-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	binary := o.binary
	if binary == "" {
		binary = filepath.Join(folder, "tarn")
		if err := process.Build(ctx, binary); err != nil {
			return err
		}
	}
	server, err := process.Start(ctx, process.Options{Binary: binary, Data: filepath.Join(folder, "data"), Flags: []string{"--log-level", "error"}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	client, err := server.Client()
	if err != nil {
		return err
	}
	return measure(ctx, &target{client: client, server: server, used: server.CPU}, o, out)
}

// target is what is measured; server and used are nil for one that was there
// before.
type target struct {
	client *process.Client
	server *process.Server
	used   func() (time.Duration, error) // processor time of the server
}

// cpu is the server's processor time so far, 0 where it cannot be known.
func (t *target) cpu() time.Duration {
	if t.used == nil {
		return 0
	}
	used, err := t.used()
	if err != nil {
		return 0 // shown as unknown
	}
	return used
}

// measure prints the table.
func measure(ctx context.Context, t *target, o options, out io.Writer) error {
	ids, err := t.preload(ctx, out)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "operation\tclients\ta second\tp50\tp99\tserver CPU each\tclient CPU each\t")
	if err := errors.Join(measureNull(ctx, o, w), t.lines(ctx, operations(ids), o, w), w.Flush()); err != nil {
		return err
	}
	return t.memory(out)
}

// measureNull measures the null server, so that the others can be set beside it.
func measureNull(ctx context.Context, o options, w io.Writer) error {
	n, err := startNull(ctx)
	if err != nil {
		return err
	}
	return errors.Join(n.lines(ctx, nullOperations(), o, w), n.stop())
}

// lines measures each kind of request with few and with many clients.
func (t *target) lines(ctx context.Context, kinds []operation, o options, w io.Writer) error {
	for _, kind := range kinds {
		for _, clients := range []int{8, 16, 64} {
			result, err := t.drive(ctx, kind, clients, o.each)
			if err != nil {
				return fmt.Errorf("%s: %w", kind.name, err)
			}
			if _, err := fmt.Fprintf(w, "%s\t%d\t%.0f\t%v\t%v\t%s\t%s\t\n", kind.name, clients, result.rate(),
				result.percentile(50), result.percentile(99), result.each(result.cpu), result.each(result.client)); err != nil {
				return err
			}
		}
	}
	return nil
}

// preload creates a store with patients and prints how fast that was; it gives
// the store's id.
func (t *target) preload(ctx context.Context, out io.Writer) (string, error) {
	parts, err := synthea.Embedded().Parts(ctx)
	if err != nil {
		return "", err
	}
	count, used, began := synthea.Count(parts), t.cpu(), time.Now()
	made, err := t.client.Create(ctx, map[string]any{"DatastoreName": "load", "PreloadDataConfig": map[string]any{"PreloadDataType": "SYNTHEA"}})
	if err != nil {
		return "", err
	}
	if _, err := t.client.Await(ctx, made.DatastoreID, "ACTIVE"); err != nil {
		return "", err
	}
	took := time.Since(began)
	text := fmt.Sprintf("import: %d resources in %.2f s, %.0f a second", count.Resources, took.Seconds(), float64(count.Resources)/took.Seconds())
	if t.server != nil {
		bytes, err := size(filepath.Join(t.server.Data, "stores", made.DatastoreID))
		if err != nil {
			return "", err
		}
		text += fmt.Sprintf("; server CPU %v each; %d bytes on disk each (%d MiB in all)",
			((t.cpu() - used) / time.Duration(count.Resources)).Round(time.Microsecond), bytes/int64(count.Resources), bytes>>20)
	}
	_, err = fmt.Fprintln(out, text)
	return made.DatastoreID, err
}

// size sums the bytes of the files below a folder; files that an engine removes
// meanwhile count nothing.
func size(folder string) (bytes int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			var info fs.FileInfo
			if info, err = entry.Info(); err == nil {
				bytes += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	return bytes, err
}

func (t *target) memory(out io.Writer) error {
	if t.server == nil {
		return nil
	}
	resident, err := t.server.Resident()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "memory: %d MiB resident\n", resident>>20)
	return err
}
