package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tarn-fhir/tarn/internal/synthea"
	"github.com/tarn-fhir/tarn/test/blackbox/process"
	"github.com/tarn-fhir/tarn/test/peer"
)

// bench is one run.
type bench struct {
	options
	out    io.Writer
	folder string
	client *process.Client
	server *process.Server // nil: it was there before
	table  *tabwriter.Writer
	chosen []operation
}

// run measures everything.
func (b *bench) run(ctx context.Context) error {
	for _, kind := range operations {
		if b.clients > 0 {
			kind.clients = slices.DeleteFunc(slices.Clone(kind.clients), func(n int) bool { return n != b.clients })
		}
		if b.only.MatchString(kind.name) && len(kind.clients) > 0 {
			b.chosen = append(b.chosen, kind)
		}
	}
	tarn, err := b.preload(ctx)
	if err != nil {
		return err
	}
	others, err := b.other(ctx)
	if err != nil {
		return err
	}
	b.table = tabwriter.NewWriter(b.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	if !b.benchstat {
		fmt.Fprintln(b.table, "operation\tclients\tserver\ta second\tp50\tp99\tserver CPU\tclient CPU\tcompared\t")
	}
	err = errors.Join(b.nullLines(ctx), b.lines(ctx, tarn, others), b.table.Flush())
	if err != nil {
		return err
	}
	return b.memory()
}

// signed signs as AWS's clients do.
func signed(base string, client *process.Client) *target {
	return &target{base: base, sign: client.Sign, client: client.HTTP}
}

// other is the server that stands beside Tarn in each line, if there is one.
func (b *bench) other(ctx context.Context) ([]*target, error) {
	if b.against == "" {
		return nil, nil
	}
	p := peer.At(b.against, b.header)
	t := &target{name: "other", base: p.Base, sign: p.Headers.Unsigned, client: p.Client, gzip: b.gzip}
	if !b.load {
		return []*target{t}, nil
	}
	parts, err := synthea.Embedded().Parts(ctx)
	if err != nil {
		return nil, err
	}
	began, n := time.Now(), synthea.Count(parts).Resources
	if err := p.Fill(ctx, parts, 1); err != nil {
		return nil, err
	}
	took := time.Since(began).Seconds()
	_, err = fmt.Fprintf(b.out, "%s filled by batches: %d resources in %.2f s, %.0f a second\n", t.name, n, took, float64(n)/took)
	return []*target{t}, err
}

// nullLines measures the null server.
func (b *bench) nullLines(ctx context.Context) error {
	c, err := startChild(ctx, "-serve-null", nil)
	if err != nil {
		return err
	}
	t := signed(c.URL, process.NewClient(c.URL, process.Key("AKIANULL", "null")))
	t.name, t.used = "HTTP alone", c.cpu
	w := &world{patients: []string{"1"}}
	for _, kind := range nullOperations {
		for _, clients := range kind.clients {
			if !slices.ContainsFunc(b.chosen, func(o operation) bool { return o.name == kind.name && slices.Contains(o.clients, clients) }) {
				continue
			}
			if err := b.line(ctx, kind, w, clients, t); err != nil {
				return errors.Join(err, c.stop())
			}
		}
	}
	return c.stop()
}

// lines measures each operation with each number of clients.
func (b *bench) lines(ctx context.Context, tarn *target, others []*target) error {
	w, err := tarn.learn(ctx)
	if err != nil {
		return err
	}
	bare, err := b.startBare(ctx, tarn, w)
	if err != nil {
		return err
	}
	for i, kind := range b.chosen {
		beside := signed(bare.URL+"/datastore/"+bare.Stores[i]+"/r4", process.NewClient(bare.URL, bareKey))
		beside.name, beside.used, beside.gzip = "bare", bare.cpu, b.gzip
		for _, clients := range kind.clients {
			if err := b.line(ctx, kind, w, clients, append([]*target{tarn, beside}, others...)...); err != nil {
				return errors.Join(err, bare.stop())
			}
		}
	}
	return bare.stop()
}

// bareKey signs requests to the bare server.
var bareKey = process.Key("AKIABAREBAREBAREBARE", "the secret of a server that keeps nothing")

// startBare starts the bare server with the answers of the real one.
func (b *bench) startBare(ctx context.Context, tarn *target, w *world) (*child, error) {
	script := bareScript{AccessKeyID: bareKey.AccessKeyID, SecretAccessKey: bareKey.SecretAccessKey, Folder: b.folder}
	for _, kind := range b.chosen {
		a, err := tarn.typical(ctx, kind, w)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		script.Answers = append(script.Answers, *a)
	}
	return startChild(ctx, "-serve-bare", script)
}

// line measures one operation at one number of clients on several servers, in
// turns, and prints the median of the rounds of each.
func (b *bench) line(ctx context.Context, kind operation, w *world, clients int, targets ...*target) error {
	rounds := make([][]result, len(targets))
	for range b.rounds {
		for i, t := range targets {
			r, err := t.drive(ctx, kind, w, clients, b.each)
			if err != nil {
				return err
			}
			rounds[i] = append(rounds[i], r)
			if !b.benchstat {
				continue
			}
			if err := b.benchmark(kind, clients, t, r); err != nil {
				return err
			}
		}
	}
	if b.benchstat {
		return nil
	}
	medians := make([]result, len(targets))
	for i := range targets {
		medians[i] = median(rounds[i])
	}
	for i, t := range targets {
		if err := b.row(kind, clients, t, medians[i], compared(i, medians)); err != nil {
			return err
		}
	}
	return nil
}

// median is the round in the middle, by processor time an operation, or by rate
// where that is unknown.
func median(rounds []result) result {
	slices.SortFunc(rounds, func(a, b result) int {
		return cmp.Or(cmp.Compare(a.each(a.cpu), b.each(b.cpu)), cmp.Compare(a.rate(), b.rate()))
	})
	return rounds[len(rounds)/2]
}

// compared sets the first server, Tarn, beside the second, the bare one, by
// processor time, and those behind beside the first, by rate.
func compared(i int, r []result) string {
	switch {
	case i == 0 && len(r) > 1 && r[0].cpu > 0 && r[1].cpu > 0:
		return fmt.Sprintf("%.2f × bare CPU", float64(r[0].each(r[0].cpu))/float64(r[1].each(r[1].cpu)))
	case i > 1:
		return fmt.Sprintf("%.2f × tarn's rate", r[i].rate()/r[0].rate())
	}
	return ""
}

func (b *bench) row(kind operation, clients int, t *target, r result, compared string) error {
	_, err := fmt.Fprintf(b.table, "%s\t%d\t%s\t%.0f\t%v\t%v\t%s\t%s\t%s\t\n", kind.name, clients, t.name, r.rate(),
		r.percentile(50).Round(time.Microsecond), r.percentile(99).Round(10*time.Microsecond), known(r.each(r.cpu)), known(r.each(r.client)), compared)
	return err
}

// known is a time, or that there is none.
func known(d time.Duration) string {
	if d == 0 {
		return "unknown"
	}
	return d.Round(time.Microsecond).String()
}

// benchmark prints a round as Go's benchmarks are printed.
func (b *bench) benchmark(kind operation, clients int, t *target, r result) error {
	name := strings.NewReplacer(" ", "_", ",", "").Replace(kind.name + "/" + t.name)
	_, err := fmt.Fprintf(b.out, "BenchmarkLoad/%s/clients=%d-%d\t%d\t%d ns/op\t%d p50-ns\t%d p99-ns\t%d server-cpu-ns/op\t%d client-cpu-ns/op\n",
		name, clients, runtime.NumCPU(), len(r.times), int64(r.took)/int64(len(r.times)), r.percentile(50), r.percentile(99), r.each(r.cpu), r.each(r.client))
	return err
}

// preload creates a store with patients and prints how fast that was.
func (b *bench) preload(ctx context.Context) (*target, error) {
	parts, err := synthea.Embedded().Parts(ctx)
	if err != nil {
		return nil, err
	}
	t := signed("", b.client)
	t.name, t.gzip = "tarn", b.gzip
	if b.server != nil {
		t.used = b.server.CPU
	}
	count := int64(synthea.Count(parts).Resources)
	members := map[string]any{"DatastoreName": "load"}
	if b.times == 1 {
		members["PreloadDataConfig"] = map[string]any{"PreloadDataType": "SYNTHEA"}
	}
	used, began := t.cpu(), time.Now()
	made, err := b.client.Create(ctx, members)
	if err != nil {
		return nil, err
	}
	t.base = b.client.Base(made.DatastoreID)
	if _, err := b.client.Await(ctx, made.DatastoreID, "ACTIVE"); err != nil {
		return nil, err
	}
	if b.times > 1 {
		if count, err = b.copies(ctx, made.DatastoreID); err != nil {
			return nil, err
		}
	}
	took := time.Since(began)
	text := fmt.Sprintf("import: %d resources in %.2f s, %.0f a second", count, took.Seconds(), float64(count)/took.Seconds())
	if b.server != nil {
		bytes, err := size(filepath.Join(b.server.Data, "stores", made.DatastoreID))
		if err != nil {
			return nil, err
		}
		text += fmt.Sprintf("; server CPU %v each; %d bytes on disk each (%d MiB in all)",
			((t.cpu() - used) / time.Duration(count)).Round(time.Microsecond), bytes/count, bytes>>20)
	}
	_, err = fmt.Fprintln(b.out, text)
	return t, err
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

func (b *bench) memory() error {
	if b.server == nil {
		return nil
	}
	resident, err := b.server.Resident()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(b.out, "memory: %d MiB resident\n", resident>>20)
	return err
}

// sampled is of how many answers the one is taken whose length is nearest to
// their mean.
const sampled = 33

// typical is a typical answer to an operation: what the bare server is to give.
func (t *target) typical(ctx context.Context, kind operation, w *world) (*answers, error) {
	a := &answers{Name: kind.name}
	if kind.status == http.StatusCreated {
		return a, nil
	}
	var bodies [][]byte
	random := rand.New(rand.NewPCG(1, 2))
	for range sampled {
		answer, err := t.ask(ctx, kind.request(w, random))
		if err != nil {
			return nil, err
		}
		if answer.Status != kind.status {
			return nil, fmt.Errorf("status %d: %.300s", answer.Status, answer.Body)
		}
		bodies = append(bodies, answer.Body)
	}
	return a, a.learn(nearestMean(bodies))
}

// nearestMean is the text whose length is nearest to the mean of all.
func nearestMean(texts [][]byte) []byte {
	sum := 0
	for _, text := range texts {
		sum += len(text)
	}
	far := func(text []byte) int { return max(len(text)*len(texts)-sum, sum-len(text)*len(texts)) }
	return slices.MinFunc(texts, func(a, b []byte) int { return cmp.Compare(far(a), far(b)) })
}

// learn takes an answer apart.
func (a *answers) learn(body []byte) error {
	var bundle struct {
		ResourceType string
		Total        int64
		Link         []struct{ Relation string }
		Entry        []struct {
			Resource json.RawMessage
			Search   struct{ Mode string }
		}
	}
	if err := json.Unmarshal(body, &bundle); err != nil {
		return err
	}
	if bundle.ResourceType != "Bundle" {
		a.Matches = []json.RawMessage{body}
		return nil
	}
	a.Total = bundle.Total
	a.More = slices.ContainsFunc(bundle.Link, func(l struct{ Relation string }) bool { return l.Relation == "next" })
	for _, e := range bundle.Entry {
		if e.Search.Mode == "include" {
			a.Includes = append(a.Includes, e.Resource)
		} else {
			a.Matches = append(a.Matches, e.Resource)
		}
	}
	return nil
}
