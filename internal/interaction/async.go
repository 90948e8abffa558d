package interaction

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/search/plan"
	"github.com/tarn-fhir/tarn/internal/store"
	"github.com/tarn-fhir/tarn/internal/validate"
)

// TypeTransaction is the type of the documents that keep asynchronous
// transactions, in the data store itself: so that one commit both carries a
// transaction out and notes that it did. Persisted: never reuse the number.
const TypeTransaction = plan.SystemTypes + 0x101

// TypeTransactionBundle is the type of the documents that keep what was sent,
// under the transaction's id, until it ended. Persisted: never reuse the number.
const TypeTransactionBundle = plan.SystemTypes + 0x102

// TransactionsKept is how long answers are kept (devguide, "Asynchronous bundle
// transactions"): what to give ForgetTransactions.
const TransactionsKept = 90 * 24 * time.Hour

// Later has work done outside of its request, also after a restart.
type Later interface {
	// Submit has RunTransaction called for this id on this data store until it
	// succeeds, and FailTransaction when it is given up. It is durable on return;
	// fault.Throttled says that too many wait.
	Submit(ctx context.Context, id string) error
}

// TransactionState is how far an asynchronous transaction is.
type TransactionState string

// The states. Persisted.
const (
	TransactionSubmitted  TransactionState = "SUBMITTED"
	TransactionInProgress TransactionState = "IN_PROGRESS"
	TransactionCommitted  TransactionState = "COMMITTED" // carried out, the answer is not written yet
	TransactionEnded      TransactionState = "ENDED"
)

// task is the document of one asynchronous transaction. Persisted as JSON.
type task struct {
	State     TransactionState
	Submitted time.Time
	Level     validate.Level  `json:",omitempty"`
	Lenient   bool            `json:",omitempty"`
	Whole     bool            `json:",omitempty"`
	Outcomes  bool            `json:",omitempty"`
	Entries   []taskEntry     `json:",omitempty"` // COMMITTED: what was written
	Status    int             `json:",omitempty"` // ENDED: the HTTP status
	Answer    json.RawMessage `json:",omitempty"` // ENDED: transaction-response or OperationOutcome
}

// taskEntry is what one writing entry came to.
type taskEntry struct {
	At      int    // place in the bundle
	Type    string `json:",omitempty"` // empty: nothing was there to delete
	ID      string `json:",omitempty"`
	Deleted bool   `json:",omitempty"`
	Found   bool   `json:",omitempty"` // a conditional create found it
}

// Async takes a transaction to be carried out later (Prefer: respond-async) and
// gives its id. What can be refused at once is: batches, entries of no form,
// resources that are not valid. A grant with conditions is refused, because it
// cannot be kept until then.
func (s *Session) Async(ctx context.Context, body []byte) (string, error) {
	if !s.Grant.Unbounded() {
		return "", &fault.Error{Kind: fault.Forbidden, Op: "interaction.Async", Detail: "asynchronous transactions need access without conditions"}
	}
	if err := s.checkAsync(ctx, body); err != nil {
		return "", err
	}
	id, err := s.NewID()
	if err != nil {
		return "", err
	}
	t := task{State: TransactionSubmitted, Submitted: s.Clock(), Level: s.Level, Lenient: s.Lenient, Whole: s.Whole, Outcomes: s.Outcomes}
	key := plan.Key{Type: TypeTransaction, ID: id}
	op, err := taskOp(key, t, store.Condition{Kind: store.Never})
	if err != nil {
		return "", err
	}
	sent := store.Op{Kind: store.Put, Key: plan.Key{Type: TypeTransactionBundle, ID: id}, Body: body}
	if _, err := s.Store.Commit(ctx, []store.Op{op, sent}); err != nil {
		return "", err
	}
	if err := s.Later.Submit(ctx, id); err != nil {
		_, undo := s.Store.Commit(ctx, []store.Op{{Kind: store.Purge, Key: key}, {Kind: store.Purge, Key: sent.Key}})
		return "", keep(err, undo)
	}
	return id, nil
}

// checkAsync refuses at once what could never be carried out.
func (s *Session) checkAsync(ctx context.Context, body []byte) error {
	doc, items, err := s.openBundle(body)
	if err != nil {
		return err
	}
	defer doc.Release()
	if doc.Root().Get("type").Is("batch") {
		return &fault.Error{Kind: fault.Invalid, Op: "interaction.Async", Subject: "Bundle.type", Detail: "only a transaction can be asynchronous"}
	}
	if err := limitEntries(items, s.Rules.Entries.Async, ""); err != nil {
		return err
	}
	entries, err := s.readTransaction(items)
	if err != nil || s.Validator == nil {
		return err
	}
	for _, e := range entries {
		if e.method != "POST" && e.method != "PUT" {
			continue
		}
		resource, err := s.parse(e.resource.Raw(), e.target.typ)
		if err == nil {
			_, _, err = s.valid(ctx, resource)
			resource.Release()
		}
		if err != nil {
			return e.placed(err)
		}
	}
	return nil
}

func taskOp(key plan.Key, t task, conditions ...store.Condition) (store.Op, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return store.Op{}, fault.Wrap(fault.Internal, "interaction.taskOp", err)
	}
	return store.Op{Kind: store.Put, Key: key, Body: body, If: conditions}, nil
}

// openTask reads the document of a transaction.
func (s *Session) openTask(ctx context.Context, id string) (t task, rec store.Record, err error) {
	if !fhir.ValidID(id) {
		return t, rec, notFound("Transaction", "?")
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return t, rec, err
	}
	defer view.Close()
	rec, err = view.Get(ctx, plan.Key{Type: TypeTransaction, ID: id})
	if err == nil && rec.Deleted || fault.Is(err, fault.NotFound) {
		return t, rec, notFound("Transaction", id)
	}
	if err == nil {
		err = fault.Wrap(fault.Internal, "interaction.openTask", json.Unmarshal(rec.Body, &t))
	}
	return t, rec, err
}

// TransactionStatus is what GET /Transaction/{id} tells.
type TransactionStatus struct {
	State  TransactionState
	Status int    // ENDED: the HTTP status of the answer
	Answer []byte // ENDED
}

// Transaction tells how far an asynchronous transaction is.
func (s *Session) Transaction(ctx context.Context, id string) (*TransactionStatus, error) {
	if !s.Grant.Unbounded() {
		return nil, notFound("Transaction", id)
	}
	t, _, err := s.openTask(ctx, id)
	if err != nil {
		return nil, err
	}
	if t.State == TransactionCommitted {
		t.State = TransactionInProgress
	}
	return &TransactionStatus{t.State, t.Status, t.Answer}, nil
}

// RunTransaction carries out a submitted transaction, once however often it is
// called: the commit that carries it out notes so in the same step. An error of
// kind Unavailable, Timeout, Full or Canceled is worth another call; a
// transaction that is refused is no error here but its answer.
func (s *Session) RunTransaction(ctx context.Context, id string) error {
	t, rec, err := s.openTask(ctx, id)
	if err != nil || t.State == TransactionEnded {
		return err
	}
	run := *s
	run.Level, run.Lenient, run.Whole, run.Outcomes = t.Level, t.Lenient, t.Whole, t.Outcomes
	if run.Touched == nil {
		run.Touched = func(audit.Target) {}
	}
	if t.State == TransactionSubmitted {
		t.State = TransactionInProgress
		if rec.Version, err = run.keepTask(ctx, rec, t); err != nil {
			return err
		}
	}
	var answer *BundleAnswer
	if t.State == TransactionCommitted {
		answer, err = run.recovered(ctx, t, rec)
	} else {
		answer, err = run.runTask(ctx, t, rec)
	}
	if err == nil {
		return run.endTask(ctx, id, 200, answer.Body)
	}
	if passing(err) {
		return err
	}
	return run.FailTransaction(ctx, id, err)
}

// passing reports whether a fault may be gone at another attempt.
func passing(err error) bool {
	switch fault.From(err).Kind {
	case fault.Unavailable, fault.Timeout, fault.Full, fault.Canceled:
		return true
	}
	return false
}

// FailTransaction ends a transaction that is given up.
func (s *Session) FailTransaction(ctx context.Context, id string, cause error) error {
	f := fault.From(cause)
	if f.Kind == fault.Internal {
		f = &fault.Error{Kind: fault.Internal}
	}
	return s.endTask(ctx, id, f.Kind.Row().FHIRStatus, fhir.Outcome(f))
}

// keepTask writes the document's next version.
func (s *Session) keepTask(ctx context.Context, rec store.Record, t task) (uint64, error) {
	op, err := taskOp(rec.Key, t, store.Condition{Kind: store.AtVersion, Version: rec.Version})
	if err != nil {
		return 0, err
	}
	out, err := s.Store.Commit(ctx, []store.Op{op})
	if err != nil {
		return 0, err
	}
	return out[0].Version, nil
}

func (s *Session) endTask(ctx context.Context, id string, status int, answer []byte) error {
	t, rec, err := s.openTask(ctx, id)
	if err != nil || t.State == TransactionEnded {
		return err
	}
	ended := task{State: TransactionEnded, Submitted: t.Submitted, Status: status, Answer: answer}
	op, err := taskOp(rec.Key, ended, store.Condition{Kind: store.AtVersion, Version: rec.Version})
	if err != nil {
		return err
	}
	_, err = s.Store.Commit(ctx, []store.Op{op, {Kind: store.Purge, Key: plan.Key{Type: TypeTransactionBundle, ID: id}}})
	return err
}

// sent parses the bundle of a transaction that has not ended.
func (s *Session) sent(ctx context.Context, id string) (*fhir.Document, fhir.Node, error) {
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, fhir.Node{}, err
	}
	defer view.Close()
	rec, err := view.Get(ctx, plan.Key{Type: TypeTransactionBundle, ID: id})
	if err != nil {
		return nil, fhir.Node{}, fault.New(fault.Internal, "interaction.sent", "the bundle of transaction %s: %v", id, err)
	}
	return s.openBundle(rec.Body)
}

// forgetPage is how many transactions ForgetTransactions reads at a time.
const forgetPage = 100

// ForgetTransactions drops the answers of transactions that ended before a time.
func (s *Session) ForgetTransactions(ctx context.Context, before time.Time) error {
	return s.eachOld(ctx, TypeTransaction, before, func(id string) error { return s.forget(ctx, id, before) })
}

// forget drops a transaction, if it ended before.
func (s *Session) forget(ctx context.Context, id string, before time.Time) error {
	t, rec, err := s.openTask(ctx, id)
	if fault.Is(err, fault.NotFound) {
		return nil // an earlier version of it came by
	}
	if err != nil || t.State != TransactionEnded || !rec.Updated.Before(before) {
		return err
	}
	_, err = s.Store.Commit(ctx, []store.Op{{Kind: store.Purge, Key: rec.Key}})
	return err
}

// runTask carries the bundle out; the commit notes it in the document.
func (s *Session) runTask(ctx context.Context, t task, rec store.Record) (*BundleAnswer, error) {
	doc, items, err := s.sent(ctx, rec.Key.ID)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	s.note = func(writes []*write) (store.Op, error) {
		t.State, t.Entries = TransactionCommitted, s.taskEntries(writes)
		return taskOp(rec.Key, t, store.Condition{Kind: store.AtVersion, Version: rec.Version})
	}
	return s.transaction(ctx, items)
}

func (s *Session) taskEntries(writes []*write) []taskEntry {
	list := make([]taskEntry, len(writes))
	for i, w := range writes {
		list[i] = taskEntry{At: w.at, Deleted: w.method == "DELETE", Found: w.found}
		if !w.nothing {
			list[i].Type, list[i].ID = s.Registry.Name(w.key.Type), w.key.ID
		}
	}
	return list
}

// recovered makes the answer of a transaction whose commit stands but whose
// answer was never written: from the versions of that commit, which share its
// time.
func (s *Session) recovered(ctx context.Context, t task, rec store.Record) (*BundleAnswer, error) {
	doc, items, err := s.sent(ctx, rec.Key.ID)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	entries, err := s.readEntries(items)
	if err != nil {
		return nil, err
	}
	view, err := s.Store.View(ctx, "")
	if err != nil {
		return nil, err
	}
	defer view.Close()
	answers := make([]fhir.BundleEntry, len(entries))
	for _, e := range t.Entries {
		if answers[e.At], err = s.recoveredEntry(ctx, view, e, rec.Updated); err != nil {
			return nil, err
		}
	}
	for _, e := range entries {
		if !e.isRead() {
			continue
		}
		if answers[e.at], err = s.get(ctx, e); err != nil {
			answers[e.at] = failedEntry(err)
		}
	}
	return s.respond("transaction-response", answers), nil
}

func (s *Session) recoveredEntry(ctx context.Context, view store.View, e taskEntry, at time.Time) (fhir.BundleEntry, error) {
	nothing := fhir.BundleEntry{Response: &fhir.BundleResponse{Status: "204 No Content"}}
	if e.Type == "" {
		return nothing, nil
	}
	key, err := s.key(e.Type, e.ID)
	if err != nil {
		return nothing, err
	}
	q := store.HistoryQuery{Key: key, High: at.Add(time.Millisecond), Limit: 1}
	page, err := view.History(ctx, q)
	if err != nil || len(page.Records) == 0 {
		return nothing, err // a delete of what never was, or it was purged since
	}
	v := s.version(page.Records[0])
	if v.Deleted != e.Deleted {
		return nothing, nil
	}
	v.Created = v.Number == 1 && !e.Found
	return s.wroteEntry(v), nil
}
