package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/tarn-fhir/tarn/internal/datastore"
)

type datastoreCommand struct {
	Create   datastoreCreate   `cmd:"" help:"Create a data store, and wait for it unless told otherwise."`
	List     datastoreList     `cmd:"" help:"List data stores."`
	Describe datastoreDescribe `cmd:"" help:"Describe a data store."`
	Update   datastoreUpdate   `cmd:"" help:"Change a data store's name, identity provider or backup."`
	Delete   datastoreDelete   `cmd:"" help:"Delete a data store with everything in it."`
	Wait     datastoreWait     `cmd:"" help:"Wait until a data store is ACTIVE, or DELETED."`
	Settings datastoreSettings `cmd:"" help:"Show how a data store bounds and treats FHIR requests, or change it."`
}

// properties is DatastoreProperties as the operator's commands show it.
type properties struct {
	DatastoreId          string
	DatastoreArn         string
	DatastoreName        string `json:",omitempty"`
	DatastoreStatus      string
	CreatedAt            float64
	DatastoreTypeVersion string
	DatastoreEndpoint    string
	ErrorCause           *struct{ ErrorMessage, ErrorCategory string } `json:",omitempty"`
}

// described is a DescribeFHIRDatastore answer: what is shown in a table, and
// all of it for --output json.
type described struct {
	properties
	all json.RawMessage
}

func (c connection) describe(ctx context.Context, id string) (described, error) {
	var answer struct{ DatastoreProperties json.RawMessage }
	if err := c.call(ctx, "DescribeFHIRDatastore", map[string]string{"DatastoreId": id}, &answer); err != nil {
		return described{}, err
	}
	d := described{all: answer.DatastoreProperties}
	return d, json.Unmarshal(answer.DatastoreProperties, &d.properties)
}

func (c connection) show(d described) error {
	if c.Output == "json" {
		return printJSON(d.all)
	}
	return table([]properties{d.properties})
}

func table(list []properties) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tSTATUS\tCREATED\tENDPOINT")
	for _, p := range list {
		created := time.UnixMilli(int64(p.CreatedAt * 1000)).UTC().Format(time.DateTime)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", p.DatastoreId, p.DatastoreName, p.DatastoreStatus, created, p.DatastoreEndpoint)
	}
	return w.Flush()
}

type datastoreCreate struct {
	connection
	Name     string            `arg:"" optional:"" help:"A name for people."`
	Preload  string            `help:"Data to begin with: ${enum}." enum:"none,synthea" default:"none"`
	KmsKey   string            `help:"KMS key that wraps the store's data key (id, ARN or alias); else the server's own."`
	Identity string            `help:"JSON file with IdentityProviderConfiguration." type:"existingfile"`
	Tag      map[string]string `help:"Tags." placeholder:"KEY=VALUE"`
	Backup   *int              `name:"backup-days" help:"Back it up continuously, to be restored to any moment of so many days (1 to 30)." placeholder:"DAYS"`
	Token    string            `help:"ClientToken: the same token makes no second store."`
	NoWait   bool              `help:"Return at once, while the store is CREATING."`
}

func (c *datastoreCreate) request() (map[string]any, error) {
	in := map[string]any{"DatastoreTypeVersion": "R4"}
	if c.Name != "" {
		in["DatastoreName"] = c.Name
	}
	if c.Preload == "synthea" {
		in["PreloadDataConfig"] = map[string]string{"PreloadDataType": "SYNTHEA"}
	}
	if c.KmsKey != "" {
		in["SseConfiguration"] = map[string]any{"KmsEncryptionConfig": map[string]string{"CmkType": "CUSTOMER_MANAGED_KMS_KEY", "KmsKeyId": c.KmsKey}}
	}
	if c.Token != "" {
		in["ClientToken"] = c.Token
	}
	var tags []map[string]string
	for _, key := range slices.Sorted(maps.Keys(c.Tag)) {
		tags = append(tags, map[string]string{"Key": key, "Value": c.Tag[key]})
	}
	if tags != nil {
		in["Tags"] = tags
	}
	withBackup(in, c.Backup)
	return in, withIdentity(in, c.Identity)
}

// withBackup asks for continuous backup of so many days; 0 turns it off.
func withBackup(in map[string]any, days *int) {
	switch {
	case days == nil:
	case *days == 0:
		in["BackupConfiguration"] = map[string]any{"Status": "DISABLED"}
	default:
		in["BackupConfiguration"] = map[string]any{"Status": "ENABLED", "BackupType": "CONTINUOUS", "RetentionPeriodInDays": *days}
	}
}

func withIdentity(in map[string]any, file string) error {
	if file == "" {
		return nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !json.Valid(raw) {
		return fmt.Errorf("%s is not JSON", file)
	}
	in["IdentityProviderConfiguration"] = json.RawMessage(raw)
	return nil
}

// Run creates the store.
func (c *datastoreCreate) Run(ctx context.Context) error {
	in, err := c.request()
	if err != nil {
		return err
	}
	var made struct{ DatastoreId string }
	if err := c.call(ctx, "CreateFHIRDatastore", in, &made); err != nil {
		return err
	}
	if c.NoWait {
		d, err := c.describe(ctx, made.DatastoreId)
		return errors.Join(err, c.show(d))
	}
	d, err := c.await(ctx, made.DatastoreId, "ACTIVE")
	return errors.Join(c.show(d), err)
}

type datastoreList struct {
	connection
	Status string `help:"Only stores in this state."`
	Name   string `help:"Only stores of this name."`
}

// Run lists the stores, all pages.
func (c *datastoreList) Run(ctx context.Context) error {
	filter := map[string]string{}
	if c.Status != "" {
		filter["DatastoreStatus"] = strings.ToUpper(c.Status)
	}
	if c.Name != "" {
		filter["DatastoreName"] = c.Name
	}
	in := map[string]any{"Filter": filter}
	all := []json.RawMessage{}
	for {
		var page struct {
			DatastorePropertiesList []json.RawMessage
			NextToken               string
		}
		if err := c.call(ctx, "ListFHIRDatastores", in, &page); err != nil {
			return err
		}
		all = append(all, page.DatastorePropertiesList...)
		if page.NextToken == "" {
			return c.showAll(all)
		}
		in["NextToken"] = page.NextToken
	}
}

func (c connection) showAll(all []json.RawMessage) error {
	if c.Output == "json" {
		return printJSON(all)
	}
	list := make([]properties, len(all))
	for i, raw := range all {
		if err := json.Unmarshal(raw, &list[i]); err != nil {
			return err
		}
	}
	return table(list)
}

type datastoreDescribe struct {
	connection
	ID string `arg:"" help:"Data store id."`
}

// Run describes one store.
func (c *datastoreDescribe) Run(ctx context.Context) error {
	d, err := c.describe(ctx, c.ID)
	if err != nil {
		return err
	}
	return c.show(d)
}

type datastoreUpdate struct {
	connection
	ID       string `arg:"" help:"Data store id."`
	Name     string `help:"The new name."`
	Identity string `help:"JSON file with the new IdentityProviderConfiguration, which replaces the old one whole." type:"existingfile"`
	Backup   *int   `name:"backup-days" help:"Back it up continuously, to be restored to any moment of so many days (1 to 30); 0 turns that off and removes the backups." placeholder:"DAYS"`
}

// Run changes one store.
func (c *datastoreUpdate) Run(ctx context.Context) error {
	in := map[string]any{"DatastoreId": c.ID}
	if c.Name != "" {
		in["DatastoreName"] = c.Name
	}
	withBackup(in, c.Backup)
	if err := withIdentity(in, c.Identity); err != nil {
		return err
	}
	if len(in) == 1 {
		return errors.New("nothing to change: give --name, --identity or --backup-days")
	}
	var answer struct{ DatastoreProperties json.RawMessage }
	if err := c.call(ctx, "UpdateFHIRDatastore", in, &answer); err != nil {
		return err
	}
	d := described{all: answer.DatastoreProperties}
	if err := json.Unmarshal(d.all, &d.properties); err != nil {
		return err
	}
	return c.show(d)
}

type datastoreDelete struct {
	connection
	ID     string `arg:"" help:"Data store id."`
	NoWait bool   `help:"Return at once, while the store is DELETING."`
}

// Run deletes one store.
func (c *datastoreDelete) Run(ctx context.Context) error {
	var answer struct{ DatastoreStatus string }
	if err := c.call(ctx, "DeleteFHIRDatastore", map[string]string{"DatastoreId": c.ID}, &answer); err != nil {
		return err
	}
	if c.NoWait {
		d, err := c.describe(ctx, c.ID)
		return errors.Join(err, c.show(d))
	}
	d, err := c.await(ctx, c.ID, "DELETED")
	return errors.Join(c.show(d), err)
}

type datastoreWait struct {
	connection
	ID      string        `arg:"" help:"Data store id."`
	For     string        `help:"State to wait for: ${enum}." enum:"active,deleted" default:"active"`
	Timeout time.Duration `help:"Give up after this long." default:"30m"`
}

// Run waits.
func (c *datastoreWait) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	d, err := c.await(ctx, c.ID, strings.ToUpper(c.For))
	if err != nil {
		return err
	}
	return c.show(d)
}

// How often await looks.
const (
	firstLook = 50 * time.Millisecond
	lastLook  = time.Second
)

// await polls until the store is in the state, or in one that does not lead
// there; meanwhile a terminal shows a preload's progress, or that something turns.
func (c connection) await(ctx context.Context, id, state string) (described, error) {
	spin := spinner("waiting until " + state)
	defer spin.Finish()
	pause := firstLook
	for {
		d, err := c.describe(ctx, id)
		if err != nil {
			return d, err
		}
		switch d.DatastoreStatus {
		case state:
			return d, nil
		case "CREATE_FAILED", "DELETED":
			if d.ErrorCause != nil {
				return d, fmt.Errorf("the data store is %s: %s", d.DatastoreStatus, d.ErrorCause.ErrorMessage)
			}
			return d, fmt.Errorf("the data store is %s", d.DatastoreStatus)
		}
		select {
		case <-ctx.Done():
			return d, fmt.Errorf("gave up waiting while the data store is %s: %w", d.DatastoreStatus, ctx.Err())
		case <-time.After(pause):
			pause = min(2*pause, lastLook)
		}
		if !visible() {
			continue
		}
		if err := c.showPreload(ctx, spin, id); err != nil {
			return d, err
		}
	}
}

// showPreload moves the bar to where the preload of a store stands.
func (c connection) showPreload(ctx context.Context, bar *progressbar.ProgressBar, id string) error {
	var page struct{ Jobs []jobSummary }
	if err := c.call(ctx, "ListJobs", map[string]any{"DatastoreId": id, "JobStatus": "IN_PROGRESS"}, &page); err != nil {
		return err
	}
	for _, j := range page.Jobs {
		var at datastore.PreloadReport
		if j.JobKind != datastore.KindProvision || json.Unmarshal(j.Progress, &at) != nil || at.Of == 0 {
			continue
		}
		bar.ChangeMax64(at.Of)
		bar.Describe("preloading")
		return bar.Set64(at.Resources)
	}
	return bar.Add(1)
}

// visible reports whether somebody watches.
func visible() bool { return term.IsTerminal(int(os.Stderr.Fd())) }

func spinner(text string) *progressbar.ProgressBar {
	return progressbar.NewOptions(-1, progressbar.OptionSetDescription(text), progressbar.OptionSetWriter(os.Stderr),
		progressbar.OptionSetVisibility(visible()), progressbar.OptionClearOnFinish(),
		progressbar.OptionShowElapsedTimeOnFinish())
}
