// Command load measures how fast a server carries the main paths, on the
// machine at hand.
//
//	go run ./test/load                          builds, starts and measures one
//	go run ./test/load -binary bin/tarn         starts and measures this one
//	go run ./test/load -url U -credentials F    measures a running one
//	go run ./test/load -against BASE            … and another FHIR server beside it
//	go run ./test/load -only 'read|one token'   … these lines alone
//	go run ./test/load -clients 64              … with so many clients alone
//	go run ./test/load -times 10                … with ten times the patients
//	go run ./test/load -bench                   … prints Go's benchmark format, for benchstat
//
// It prints a table: for creates, reads and searches with one client and with
// several, operations a second, median and 99th percentile, and the processor
// time of server and clients an operation, the median of three rounds. Each line
// of Tarn has the same of the bare server beside it, which is Tarn without its
// store (bare.go): it answers the same requests with the same bytes, so that the
// ratio is what the store costs. The null server does nothing but HTTP. Then
// come the preload's resources a second, bytes on disk a resource, and memory.
//
// Server and clients share the machine, so that a rate here is less than what
// the server alone could do. The clients are lean for that reason: requests are
// signed before the clock runs and sent over connections that are kept; answers
// are read and not looked into, and compressed only where -gzip asks for it.
// Signatures are verified, resources validated, stores sealed and, but with
// -audit=false, accesses recorded in an audit file; the request log is off.
//
// Another server is measured with the same requests, unsigned, with the headers
// that -header gives ("Authorization: Basic …"), after the same patients were
// written to it by batches of PUT (-against-load=false: they are there already).
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
	"regexp"
	"syscall"
	"time"

	"github.com/tarn-fhir/tarn/test/blackbox/process"
	"github.com/tarn-fhir/tarn/test/peer"
)

// options are the command line.
type options struct {
	binary      string
	url         string
	credentials string
	each        time.Duration
	rounds      int
	only        *regexp.Regexp
	clients     int
	benchstat   bool
	gzip        bool
	times       int
	audit       bool
	against     string
	load        bool
	header      peer.Headers
	flags       list
	null, bare  bool // serve, for another load
}

// list is a flag that may be given several times.
type list []string

// String implements flag.Value.
func (l *list) String() string { return fmt.Sprint(*l) }

// Set implements flag.Value.
func (l *list) Set(one string) error { *l = append(*l, one); return nil }

func parse() options {
	o := options{only: regexp.MustCompile("")}
	flag.StringVar(&o.binary, "binary", "", "start this executable instead of one built from the checkout")
	flag.StringVar(&o.url, "url", "", "measure the server at this URL instead of starting one")
	flag.StringVar(&o.credentials, "credentials", "tarn-data/credentials", "credentials file for -url")
	flag.DurationVar(&o.each, "each", time.Second, "time for each line of the table, in each round")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each line is measured; the median is shown")
	flag.Func("only", "measure only the operations that this regular expression matches", func(text string) (err error) {
		o.only, err = regexp.Compile(text)
		return err
	})
	flag.IntVar(&o.clients, "clients", 0, "measure only the lines with so many clients; 0 is all")
	flag.BoolVar(&o.benchstat, "bench", false, "print every round in the format of Go's benchmarks")
	flag.BoolVar(&o.gzip, "gzip", false, "ask for compressed answers")
	flag.IntVar(&o.times, "times", 1, "how often the patients are there, with other ids each time: more than once, they are imported")
	flag.BoolVar(&o.audit, "audit", true, "have the server write an audit file")
	flag.Var(&o.flags, "serve", "further flag for tarn serve, as in -serve=--cache-mib=512; may be repeated")
	flag.StringVar(&o.against, "against", "", "base URL of another FHIR server to measure beside")
	flag.BoolVar(&o.load, "against-load", true, "write the patients to the other server first")
	flag.Var(&o.header, "header", "header for the other server, as in 'Authorization: Basic …'; may be repeated")
	flag.BoolVar(&o.null, "serve-null", false, "be the null server that others are compared with")
	flag.BoolVar(&o.bare, "serve-bare", false, "be the bare server that others are compared with")
	flag.Parse()
	return o
}

func main() {
	o := parse()
	do := func(ctx context.Context) error { return run(ctx, o, os.Stdout) }
	switch {
	case o.null:
		do = func(ctx context.Context) error { return serveNull(ctx, os.Stdin, os.Stdout) }
	case o.bare:
		do = func(ctx context.Context) error { return serveBare(ctx, os.Stdin, os.Stdout) }
	case o.rounds < 1:
		do = func(context.Context) error { return errors.New("-rounds: at least one") }
	case o.times < 1 || o.times > 1 && o.url != "":
		do = func(context.Context) error {
			return errors.New("-times: at least one, and one for a server that runs already")
		}
	}
	// A server that was started ends with the measurement, also where nobody reads on.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	if err := do(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// run starts or finds the server, and measures.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	folder, err := os.MkdirTemp("", "tarn-load-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	b := &bench{options: o, out: out, folder: folder}
	if o.url != "" {
		key, err := process.Credentials(o.credentials)
		if err != nil {
			return err
		}
		b.client = process.NewClient(o.url, key)
		return b.run(ctx)
	}
	binary := o.binary
	if binary == "" {
		binary = filepath.Join(folder, "tarn")
		if err := process.Build(ctx, binary); err != nil {
			return err
		}
	}
	flags := append([]string{"--log-level", "error", "--file-dir", folder}, o.flags...)
	if o.audit {
		flags = append(flags, "--audit-file", filepath.Join(folder, "audit.jsonl"))
	}
	b.server, err = process.Start(ctx, process.Options{Binary: binary, Data: filepath.Join(folder, "data"), Flags: flags})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.server.Stop()) }()
	if b.client, err = b.server.Client(); err != nil {
		return err
	}
	return b.run(ctx)
}
