package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/gateway"
)

// serveCommand runs the server.
type serveCommand struct {
	Listen    string `help:"Address to listen on." default:"127.0.0.1:8080"`
	DataDir   string `name:"data" help:"Folder for everything the server keeps." default:"./tarn-data" env:"TARN_DATA"`
	Region    string `help:"AWS region that this server is." default:"us-east-1" env:"TARN_REGION"`
	Account   string `help:"AWS account that this server is." default:"111122223333" env:"TARN_ACCOUNT"`
	PublicURL string `help:"URL under which clients reach the server; else http:// and the listen address." placeholder:"URL" env:"TARN_PUBLIC_URL"`

	RootAccessKeyID     string `help:"The root's access key id; with its secret, instead of the credentials file." env:"TARN_ROOT_ACCESS_KEY_ID"`
	RootSecretAccessKey string `help:"The root's secret access key." env:"TARN_ROOT_SECRET_ACCESS_KEY"`
	IAM                 string `name:"iam" help:"YAML or JSON file of users, roles and policies; read again when it changes." placeholder:"FILE" env:"TARN_IAM"`

	KeyFile    string `help:"The built-in key management service's keyring; else <data>/keyring." placeholder:"FILE" env:"TARN_KEY_FILE"`
	AWSKMS     bool   `name:"aws-kms" help:"Look for keys in AWS KMS too, by the SDK's standard settings." env:"TARN_AWS_KMS"`
	SyntheaDir string `help:"Folder of Synthea output (bundles or NDJSON) for preloads, instead of the built-in patients." type:"existingdir" env:"TARN_SYNTHEA_DIR"`
	auditFlags

	storageFlags
	MissingIDs  bool       `name:"allow-missing-ids" help:"Give resources without id one when they are imported, instead of refusing them." env:"TARN_ALLOW_MISSING_IDS"`
	BulkWorkers int        `help:"Imports and exports carried out side by side." default:"2" env:"TARN_BULK_WORKERS"`
	StoreJobs   int        `help:"Imports of one data store side by side." default:"1" env:"TARN_STORE_JOBS"`
	SMART       smartFlags `embed:"" prefix:"smart-"`
	DevIDP      bool       `name:"dev-idp" help:"Serve an authorization server for development below /dev-idp, on a loopback address: it lets everybody in." env:"TARN_DEV_IDP"`

	TLSCert string `name:"tls-cert" help:"Certificate (chain) in PEM to serve TLS with; read again when it changes." placeholder:"FILE" env:"TARN_TLS_CERT"`
	TLSKey  string `name:"tls-key" help:"Its private key in PEM." placeholder:"FILE" env:"TARN_TLS_KEY"`

	PrivateDiscovery bool `help:"Ask for a signature on /metadata and /.well-known too, as HealthLake does." env:"TARN_PRIVATE_DISCOVERY"`
	DebugAuth        bool `help:"Show the canonical request when a signature does not match." env:"TARN_DEBUG_AUTH"`

	DebugListen string `help:"Loopback address to serve Go's profiles at, for developers, as in 127.0.0.1:6060; without it there are none." placeholder:"ADDRESS" env:"TARN_DEBUG_LISTEN"`

	MemoryMiB   int64         `name:"memory-mib" help:"Memory that the server is to keep within, in MiB: caches and memtables of all data stores are a quarter of it, and the collector works harder towards it. GOMEMLIMIT goes before it." default:"512" env:"TARN_MEMORY_MIB"`
	CacheMiB    int64         `name:"cache-mib" help:"Memory for the block cache and the memtables of all data stores, in MiB; else a quarter of --memory-mib." env:"TARN_CACHE_MIB"`
	MinFreeMiB  uint64        `name:"min-free-mib" help:"Refuse writes when less disk space than this is free, in MiB." default:"256" env:"TARN_MIN_FREE_MIB"`
	BallastMiB  int64         `name:"ballast-mib" help:"Size of a file that is given up when the disk is full all the same, in MiB." default:"16" env:"TARN_BALLAST_MIB"`
	BackupDir   string        `help:"Folder for backups, or s3://bucket/prefix; without it data stores have none." placeholder:"DIR" env:"TARN_BACKUP_DIR"`
	BackupEvery time.Duration `help:"How often data stores with continuous backup are backed up." default:"1m" env:"TARN_BACKUP_EVERY"`
	MaxOpen     int           `help:"Data stores open at once; 0: as many as the memory has room for, 64 at most." default:"0" env:"TARN_MAX_OPEN"`
	IdleClose   time.Duration `help:"Close a data store that nobody used for so long." default:"5m" env:"TARN_IDLE_CLOSE"`
	KeyCheck    time.Duration `help:"How often the keys of open data stores are looked at." default:"20s" env:"TARN_KEY_CHECK"`
	KeyGrace    time.Duration `help:"How long open data stores stay open while their KMS cannot be reached." default:"15m" env:"TARN_KEY_GRACE"`
	KeepDeleted time.Duration `help:"How long deleted data stores are listed." default:"2160h" env:"TARN_KEEP_DELETED"`
	Workers     int           `help:"Jobs carried out side by side." default:"4" env:"TARN_WORKERS"`
	Drain       time.Duration `help:"How long requests under way may take when the server is asked to stop." default:"20s" env:"TARN_DRAIN"`

	ControlRate  float64 `help:"Control plane requests a second; 0: no limit." default:"200" env:"TARN_CONTROL_RATE"`
	ControlBurst int     `help:"Control plane requests at once." default:"1000" env:"TARN_CONTROL_BURST"`
	StoreRate    float64 `help:"Requests a second to one data store; 0: no limit." default:"50000" env:"TARN_STORE_RATE"`
	StoreBurst   int     `help:"Requests at once to one data store." default:"100000" env:"TARN_STORE_BURST"`
	quotaFlags

	SearchTime time.Duration `help:"How long one search may take; longer ones are refused as too costly; 0: no limit." default:"30s" env:"TARN_SEARCH_TIME"`
	SearchRows int64         `help:"How many index rows and versions one search may look at." default:"50000000" env:"TARN_SEARCH_ROWS"`
	SlowSearch time.Duration `help:"Log searches that take so long or longer, by their shape and without values; 0: none." default:"1s" env:"TARN_SLOW_SEARCH"`

	LogFormat string `help:"Form of the log: ${enum}." enum:"text,json" default:"text" env:"TARN_LOG_FORMAT"`
	LogLevel  string `help:"Least level that is logged: ${enum}." enum:"debug,info,warn,error" default:"info" env:"TARN_LOG_LEVEL"`
}

// Run serves until the context ends, then drains.
func (c *serveCommand) Run(ctx context.Context) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log, err := c.logger(os.Stderr)
	if err != nil {
		return err
	}
	spread()
	secure, err := c.secure(log)
	if err != nil {
		return err
	}
	profiles, err := c.debug(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, profiles.close()) }()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	if c.PublicURL == "" {
		c.PublicURL = "http://" + listener.Addr().String()
		if secure != nil {
			c.PublicURL = "https://" + listener.Addr().String()
		}
	}
	s, err := wire(ctx, c, log)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	s.tls = secure
	fmt.Print(c.greeting())
	return s.run(ctx, listener, c.Drain)
}

// cores is how much this process can do at once.
var cores = runtime.GOMAXPROCS(0)

// threadsPerCore is how many goroutines run at a time for each core. With one, a
// request that comes while jobs keep all of them busy waits for Go to take one
// away, after ten milliseconds; the kernel shares a core within one or two.
const threadsPerCore = 2

// spread sets that, unless the environment says otherwise.
func spread() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(threadsPerCore * cores)
	}
}

// gcPercent is how much memory may be allocated anew before Go collects, in
// percent of what is in use; GOGC sets another. What the engine caches is not
// collected, and the rest is small, so that twice Go's 100 costs some ten MiB and
// saves a tenth of the processor time.
const gcPercent = 200

func (c *serveCommand) check() error {
	if !arn.IsAccount(c.Account) {
		return fmt.Errorf("--account: %q is not an AWS account of 12 digits", c.Account)
	}
	if c.MemoryMiB < leastMemory || c.CacheMiB < 0 || c.CacheMiB >= c.MemoryMiB {
		return fmt.Errorf("--memory-mib is at least %d, and --cache-mib less than it", leastMemory)
	}
	if c.MaxOpen < 0 {
		return errors.New("--max-open is at least 0")
	}
	if (c.RootAccessKeyID == "") != (c.RootSecretAccessKey == "") {
		return errors.New("the root's access key id and secret go together")
	}
	if err := errors.Join(c.SMART.check(), c.checkDevIDP(), c.checkQuotas()); err != nil {
		return err
	}
	if c.PublicURL == "" {
		return nil
	}
	u, err := url.Parse(c.PublicURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return fmt.Errorf("--public-url: %q is not an http or https URL", c.PublicURL)
	}
	c.PublicURL = strings.TrimRight(c.PublicURL, "/")
	return nil
}

func (c *serveCommand) logger(out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: plainErrors}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(out, options)), nil
	}
	return slog.New(slog.NewTextHandler(out, options)), nil
}

// plainErrors has errors tell what they say, and not where in the program they were
// made: those of the storage engine bring their stack along.
func plainErrors(_ []string, a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		a.Value = slog.StringValue(err.Error())
	}
	return a
}

func (c *serveCommand) keyFile() string {
	if c.KeyFile != "" {
		return c.KeyFile
	}
	return filepath.Join(c.DataDir, "keyring")
}

// storeBase is the FHIR base URL of a data store, without the slash at its end.
func (c *serveCommand) storeBase(id string) string {
	return c.PublicURL + "/datastore/" + id + "/r4"
}

// greeting says how to reach the server.
func (c *serveCommand) greeting() string {
	text := fmt.Sprintf("Tarn %s answers at %s\n", version(), c.PublicURL)
	if c.RootAccessKeyID == "" {
		text += fmt.Sprintf("Try: AWS_SHARED_CREDENTIALS_FILE=%s aws --profile tarn --region %s --endpoint-url %s healthlake list-fhir-datastores\n",
			credentialsFile(c.DataDir), c.Region, c.PublicURL)
	}
	return text
}

// server is everything that runs, wired.
type server struct {
	handler interface {
		http.Handler
		Ready(bool)
	}
	tend func(context.Context) // until its context ends
	stop func() error          // after the last request
	log  *slog.Logger
	tls  *tls.Config // nil: in the clear
}

// Time bounds of a connection: a client that sends its headers or its whole
// request slower, or leaves an idle connection open longer, is cut off.
const (
	headerTimeout = 10 * time.Second
	bodyTimeout   = 5 * time.Minute
	idleTimeout   = 2 * time.Minute
	maxHeader     = 64 << 10 // bytes
)

// run serves until ctx ends, lets requests under way finish, and closes.
func (s *server) run(ctx context.Context, listener net.Listener, drain time.Duration) error {
	web := &http.Server{Handler: s.handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, TLSConfig: s.tls,
		ConnContext: gateway.ConnContext}
	listener = gateway.Listener(listener)
	served := make(chan error, 1)
	go func() {
		if s.tls != nil {
			served <- web.ServeTLS(listener, "", "")
			return
		}
		served <- web.Serve(listener)
	}()
	tending, stopTending := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); s.tend(tending) }()
	s.handler.Ready(true)

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-served:
	}
	s.handler.Ready(false)
	s.log.Info("draining", "for", drain)
	draining, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := web.Shutdown(draining); err != nil {
		s.log.Warn("requests under way were cut off", "error", err)
		failed = errors.Join(failed, web.Close())
	}
	stopTending()
	<-done
	return errors.Join(failed, s.stop())
}

// isLoopback reports whether a connection's other end is this machine.
func isLoopback(remote string) bool {
	host, _, err := net.SplitHostPort(remote)
	return err == nil && net.ParseIP(host).IsLoopback()
}
