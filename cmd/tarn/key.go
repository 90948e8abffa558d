package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tarn-fhir/tarn/internal/seal/localkms"
)

// keyCommand keeps the built-in key management service. It works on the keyring
// itself, beside a running server, which sees changes within seconds.
type keyCommand struct {
	Create  keyCreate  `cmd:"" help:"Make a key."`
	List    keyList    `cmd:"" help:"List keys and their aliases."`
	Disable keyDisable `cmd:"" help:"Disable a key: data stores under it stop answering within a minute."`
	Enable  keyEnable  `cmd:"" help:"Enable a disabled key."`
	Rotate  keyRotate  `cmd:"" help:"Give a key new material, or a data store (--datastore) or the server's own records (--system) another data key."`
	Delete  keyDelete  `cmd:"" help:"Destroy a key, and with it all that only it can open."`
	Alias   keyAlias   `cmd:"" help:"Give a key another name."`
}

// ringOfKeys is where the keyring is.
type ringOfKeys struct {
	DataDir string `name:"data" help:"The server's data folder." default:"./tarn-data" env:"TARN_DATA"`
	KeyFile string `help:"The keyring; else <data>/keyring." placeholder:"FILE" env:"TARN_KEY_FILE"`
	Region  string `help:"Region in the keys' ARNs." default:"us-east-1" env:"TARN_REGION"`
	Account string `help:"Account in the keys' ARNs." default:"111122223333" env:"TARN_ACCOUNT"`
	Output  string `help:"How to print: ${enum}." enum:"table,json" default:"table" env:"TARN_OUTPUT"`
}

func (r ringOfKeys) open() (*localkms.KMS, error) {
	path := r.KeyFile
	if path == "" {
		path = filepath.Join(r.DataDir, "keyring")
		if err := os.MkdirAll(r.DataDir, 0o700); err != nil {
			return nil, err
		}
	}
	return localkms.Open(path, r.Account, r.Region, rand.Reader, time.Now)
}

// shownKey is a key as the commands print it.
type shownKey struct {
	KeyId       string
	Arn         string
	State       string
	Version     int
	Description string   `json:",omitempty"`
	Aliases     []string `json:",omitempty"`
}

func (r ringOfKeys) show(keys ...localkms.Key) error {
	list := make([]shownKey, len(keys))
	for i, k := range keys {
		list[i] = shownKey{KeyId: k.ID, Arn: k.ARN, State: k.State, Version: k.Version, Description: k.Description, Aliases: k.Aliases}
	}
	if r.Output == "json" {
		return printJSON(list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tSTATE\tVERSION\tALIASES\tDESCRIPTION")
	for _, k := range list {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%s\n", k.KeyId, k.State, k.Version, strings.Join(k.Aliases, ","), k.Description)
	}
	return w.Flush()
}

type keyCreate struct {
	ringOfKeys
	Description string `arg:"" optional:"" help:"What the key is for."`
	Alias       string `help:"A name for it." placeholder:"alias/NAME"`
}

// Run makes a key.
func (c *keyCreate) Run() error {
	kms, err := c.open()
	if err != nil {
		return err
	}
	k, err := kms.CreateKey(c.Description)
	if err != nil {
		return err
	}
	if c.Alias != "" {
		if _, err := kms.CreateAlias(c.Alias, k.ID); err != nil {
			return err
		}
		k.Aliases = []string{c.Alias}
	}
	return c.show(k)
}

type keyList struct{ ringOfKeys }

// Run lists keys.
func (c *keyList) Run() error {
	kms, err := c.open()
	if err != nil {
		return err
	}
	keys, err := kms.List()
	if err != nil {
		return err
	}
	return c.show(keys...)
}

// oneKey is a command about one key.
type oneKey struct {
	ringOfKeys
	Key string `arg:"" help:"Key id, ARN or alias."`
}

func (c oneKey) change(do func(*localkms.KMS, string) (localkms.Key, error)) error {
	kms, err := c.open()
	if err != nil {
		return err
	}
	k, err := do(kms, c.Key)
	if err != nil {
		return err
	}
	return c.show(k)
}

type keyDisable struct{ oneKey }

// Run disables a key.
func (c *keyDisable) Run() error { return c.change((*localkms.KMS).Disable) }

type keyEnable struct{ oneKey }

// Run enables a key.
func (c *keyEnable) Run() error { return c.change((*localkms.KMS).Enable) }

// keyRotate rotates a KMS key, or a data store's data key.
type keyRotate struct {
	ringOfKeys
	Key       string `arg:"" optional:"" help:"Key id, ARN or alias: it gets new material, and a running server wraps data keys anew within a minute."`
	Own       bool   `help:"The server's own key, instead of a named one."`
	System    bool   `help:"The data key of the server's own records, while no server runs on the folder: their files are sealed anew."`
	Datastore string `help:"Id of a data store that gets another data key, while it serves: all its files are sealed anew."`
	NoWait    bool   `help:"Return at once, with the job's id."`

	Endpoint  string `help:"Where the server answers, for --datastore." default:"http://127.0.0.1:8080" env:"TARN_ENDPOINT"`
	AccessKey string `help:"Access key id, for --datastore; else the credentials file's." env:"TARN_ROOT_ACCESS_KEY_ID"`
	SecretKey string `help:"Secret access key, for --datastore." env:"TARN_ROOT_SECRET_ACCESS_KEY"`
}

// Run rotates.
func (c *keyRotate) Run(ctx context.Context) error {
	named := 0
	for _, given := range []bool{c.Key != "", c.Own, c.System, c.Datastore != ""} {
		if given {
			named++
		}
	}
	if named != 1 {
		return errors.New("name one thing to rotate: a key, --own, --system, or --datastore ID")
	}
	switch {
	case c.Datastore != "":
		return c.datastore(ctx)
	case c.System:
		return c.system(ctx)
	}
	kms, err := c.open()
	if err != nil {
		return err
	}
	if c.Own {
		c.Key = kms.OwnedKey()
	}
	k, err := kms.Rotate(c.Key)
	if err != nil {
		return err
	}
	return c.show(k)
}

// system exchanges the data key of the server's own records.
func (c *keyRotate) system(ctx context.Context) error {
	h, err := (&stopped{DataDir: c.DataDir, KeyFile: c.KeyFile, Region: c.Region, Account: c.Account}).open(ctx)
	if err != nil {
		return err
	}
	defer h.close()
	if err := h.keys.exchange(ctx, h.system); err != nil {
		return err
	}
	_, err = fmt.Fprintln(os.Stderr, "the server's own records are sealed under another data key")
	return err
}

// datastore asks the server, and waits for the job.
func (c *keyRotate) datastore(ctx context.Context) error {
	conn := connection{Endpoint: c.Endpoint, Data: c.DataDir, Region: c.Region, AccessKey: c.AccessKey, SecretKey: c.SecretKey, Output: c.Output}
	var begun struct{ JobId string }
	if err := conn.call(ctx, "RotateDatastoreKey", map[string]string{"DatastoreId": c.Datastore}, &begun); err != nil {
		return err
	}
	job := jobFlags{connection: conn, Datastore: c.Datastore, ID: begun.JobId}
	for {
		now, err := job.ask(ctx, "DescribeJob")
		if err != nil {
			return err
		}
		if c.NoWait || now.JobStatus == "COMPLETED" {
			return conn.showJobs([]jobSummary{now})
		}
		if now.ended() {
			return errors.Join(conn.showJobs([]jobSummary{now}), fmt.Errorf("the job ended in %s", now.JobStatus))
		}
		select {
		case <-time.After(rotationLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// rotationLook is how often the command asks for the job.
const rotationLook = 250 * time.Millisecond

type keyDelete struct {
	oneKey
	Yes bool `help:"Really: every data store under this key is lost."`
}

// Run destroys a key.
func (c *keyDelete) Run() error {
	if !c.Yes {
		return fmt.Errorf("deleting %s makes every data store under it unreadable for ever: say --yes", c.Key)
	}
	kms, err := c.open()
	if err != nil {
		return err
	}
	return kms.Delete(c.Key)
}

type keyAlias struct {
	oneKey
	Name string `arg:"" help:"The new name." placeholder:"alias/NAME"`
}

// Run names a key.
func (c *keyAlias) Run() error {
	return c.change(func(kms *localkms.KMS, name string) (localkms.Key, error) {
		a, err := kms.CreateAlias(c.Name, name)
		if err != nil {
			return localkms.Key{}, err
		}
		keys, err := kms.List()
		for _, k := range keys {
			if k.ID == a.Key {
				return k, err
			}
		}
		return localkms.Key{}, err
	})
}
