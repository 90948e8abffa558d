package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/tarn-fhir/tarn/internal/blob"
	"github.com/tarn-fhir/tarn/internal/bulk"
	"github.com/tarn-fhir/tarn/internal/interaction"
)

type jobCommand struct {
	List     jobList     `cmd:"" help:"List a data store's jobs, the latest first."`
	Describe jobDescribe `cmd:"" help:"Describe a job."`
	Cancel   jobCancel   `cmd:"" help:"Cancel a job; what it has done stays."`
	Watch    jobWatch    `cmd:"" help:"Show a job's progress until it ends."`
}

// jobSummary is a job as ListJobs and DescribeJob give it.
type jobSummary struct {
	JobId, JobKind, JobStatus, JobName, Message string
	SubmitTime                                  float64
	EndTime                                     float64         `json:",omitempty"`
	Progress                                    json.RawMessage `json:",omitempty"`
}

func (j jobSummary) ended() bool {
	switch j.JobStatus {
	case "COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED", "CANCEL_COMPLETED", "CANCEL_FAILED":
		return true
	}
	return false
}

// report is the progress of an import, empty for other kinds.
func (j jobSummary) report() bulk.ImportReport {
	var r bulk.ImportReport
	if j.JobKind != bulk.KindImport || json.Unmarshal(j.Progress, &r) != nil {
		return bulk.ImportReport{}
	}
	return r
}

// done are the resources that an import stored or an export wrote.
func (j jobSummary) done() int64 {
	if j.JobKind == interaction.KindExport {
		return j.exported().Done
	}
	return j.report().Imported
}

// exported is the progress of an export, empty for other kinds.
func (j jobSummary) exported() exportProgress {
	var p exportProgress
	if j.JobKind != interaction.KindExport || json.Unmarshal(j.Progress, &p) != nil {
		return exportProgress{}
	}
	return p
}

// expected is about how many resources an import will have scanned at its end,
// by those that its files gave so far; -1: there is no telling yet.
func expected(r bulk.ImportReport) int64 {
	if r.Scanned == 0 || r.ReadBytes == 0 || r.ScannedBytes == 0 {
		return -1
	}
	return max(r.Scanned, int64(float64(r.Scanned)*float64(r.ScannedBytes)/float64(r.ReadBytes)))
}

// show brings a bar to where the job is: an export knows how many resources there
// are, an import estimates it. Where the end is known, the bar has the time left.
func (j jobSummary) show(bar *progressbar.ProgressBar) error {
	if p := j.exported(); p.Total > 0 {
		bar.Describe(j.JobStatus)
		bar.ChangeMax64(p.Total)
		return bar.Set64(min(p.Done, p.Total))
	}
	r := j.report()
	bar.Describe(fmt.Sprintf("%s, %d of %d files", j.JobStatus, r.ImportedFiles+r.FaultyFiles, r.ScannedFiles))
	if r.Scanned < bar.State().CurrentNum { // the job began again
		bar.Reset()
	}
	if all := expected(r); all > 0 {
		bar.ChangeMax64(all)
	} else if r.ScannedBytes > 0 {
		return nil // the first resources will tell
	}
	return bar.Set64(r.Scanned)
}

// jobFlags name one job.
type jobFlags struct {
	connection
	Datastore string `help:"Data store id." required:""`
	ID        string `arg:"" help:"Job id."`
}

func (f jobFlags) ask(ctx context.Context, operation string) (jobSummary, error) {
	var answer struct{ Job jobSummary }
	err := f.call(ctx, operation, map[string]string{"DatastoreId": f.Datastore, "JobId": f.ID}, &answer)
	return answer.Job, err
}

func (c connection) showJobs(jobs []jobSummary) error {
	if c.Output == "json" {
		return printJSON(jobs)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tKIND\tNAME\tSTATUS\tSUBMITTED\tDONE\tREFUSED\tMESSAGE")
	for _, j := range jobs {
		r := j.report()
		submitted := time.UnixMilli(int64(j.SubmitTime * 1000)).UTC().Format(time.DateTime)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", j.JobId, j.JobKind, j.JobName, j.JobStatus, submitted, j.done(), r.CustomerErrors, j.Message)
	}
	return w.Flush()
}

type jobList struct {
	connection
	Datastore string `help:"Data store id." required:""`
	Status    string `help:"Only jobs in this state."`
}

// Run lists the jobs, all pages.
func (c *jobList) Run(ctx context.Context) error {
	in := map[string]any{"DatastoreId": c.Datastore}
	if c.Status != "" {
		in["JobStatus"] = strings.ToUpper(c.Status)
	}
	all := []jobSummary{}
	for {
		var page struct {
			Jobs      []jobSummary
			NextToken string
		}
		if err := c.call(ctx, "ListJobs", in, &page); err != nil {
			return err
		}
		if all = append(all, page.Jobs...); page.NextToken == "" {
			return c.showJobs(all)
		}
		in["NextToken"] = page.NextToken
	}
}

type jobDescribe struct{ jobFlags }

// Run describes one job.
func (c *jobDescribe) Run(ctx context.Context) error {
	j, err := c.ask(ctx, "DescribeJob")
	if err != nil {
		return err
	}
	return errors.Join(c.showJobs([]jobSummary{j}), showErrors(c.Output, j))
}

type jobCancel struct{ jobFlags }

// Run cancels one job.
func (c *jobCancel) Run(ctx context.Context) error {
	j, err := c.ask(ctx, "CancelJob")
	if err != nil {
		return err
	}
	return c.showJobs([]jobSummary{j})
}

type jobWatch struct{ jobFlags }

// Run watches one job.
func (c *jobWatch) Run(ctx context.Context) error { return c.watch(ctx) }

// newBar is a bar of resources: how many, how many a second, and once the end is
// known the time left.
func newBar(w io.Writer, visible bool, description string) *progressbar.ProgressBar {
	return progressbar.NewOptions64(-1, progressbar.OptionSetDescription(description), progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(visible), progressbar.OptionClearOnFinish(), progressbar.OptionShowIts(),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionSetItsString("resources"))
}

// lookEvery is how often a job's progress is asked for.
const lookEvery = 250 * time.Millisecond

// watch shows progress until the job ends; the error says that it did not end
// well.
func (f jobFlags) watch(ctx context.Context) error {
	bar := newBar(os.Stderr, visible(), "job "+f.ID)
	for {
		j, err := f.ask(ctx, "DescribeJob")
		if err != nil {
			return errors.Join(err, bar.Finish())
		}
		if err := j.show(bar); err != nil {
			return err
		}
		if j.ended() {
			err := errors.Join(bar.Finish(), f.showJobs([]jobSummary{j}), showErrors(f.Output, j))
			if j.JobStatus != "COMPLETED" {
				err = errors.Join(err, fmt.Errorf("the job is %s", j.JobStatus))
			}
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), bar.Finish())
		case <-time.After(lookEvery):
		}
	}
}

// showErrors prints the first lines that an import refused.
func showErrors(output string, j jobSummary) error {
	if output == "json" {
		return nil
	}
	for _, e := range j.report().Errors {
		if _, err := fmt.Fprintf(os.Stdout, "%s, line %d: %s\n", e.File, e.Line, e.Message); err != nil {
			return err
		}
	}
	return nil
}

// importCommand starts an import and watches it.
type importCommand struct {
	connection
	Datastore string `help:"Data store id." required:""`
	From      string `arg:"" help:"Files to import: s3://bucket/prefix, or a folder or file that the server may reach (tarn serve --file-dir)."`
	Out       string `help:"Where the job's output goes; else beside the input." placeholder:"URI"`
	Level     string `help:"How much is asked of the resources: ${enum}." enum:"strict,structure-only,minimal" default:"strict"`
	Role      string `help:"DataAccessRoleArn." default:"arn:aws:iam::111122223333:role/tarn"`
	KmsKey    string `help:"The key that the output is sealed under in S3." default:"alias/tarn"`
	Name      string `help:"A name for people."`
	NoWait    bool   `help:"Return at once."`
}

// Run starts the import.
func (c *importCommand) Run(ctx context.Context) error {
	from, out, err := c.places()
	if err != nil {
		return err
	}
	in := map[string]any{
		"DatastoreId": c.Datastore, "DataAccessRoleArn": c.Role, "ValidationLevel": c.Level,
		"InputDataConfig":     map[string]string{"S3Uri": from},
		"JobOutputDataConfig": map[string]any{"S3Configuration": map[string]string{"S3Uri": out, "KmsKeyId": c.KmsKey}},
	}
	if c.Name != "" {
		in["JobName"] = c.Name
	}
	var made struct{ JobId string }
	if err := c.call(ctx, "StartFHIRImportJob", in, &made); err != nil {
		return err
	}
	job := jobFlags{c.connection, c.Datastore, made.JobId}
	if c.NoWait {
		return (&jobDescribe{job}).Run(ctx)
	}
	return job.watch(ctx)
}

// places are the locations of input and output; the output's default is a folder
// beside the input, so that a second import does not read it.
func (c *importCommand) places() (from, out string, err error) {
	from, err = place(c.From)
	if err != nil || c.Out != "" {
		return from, c.Out, err
	}
	return from, strings.TrimRight(from, "/") + "-import", nil
}

// place is the location that an argument means: a URI, or a path.
func place(named string) (string, error) {
	if strings.Contains(named, "://") {
		return named, nil
	}
	absolute, err := filepath.Abs(named)
	return blob.FileLocation(absolute).String(), err
}
