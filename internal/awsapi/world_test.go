package awsapi_test

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/seal/localkms"
	"github.com/tarn-fhir/tarn/internal/store/memory"
)

const (
	account = "111122223333"
	region  = "us-east-1"
)

// world is the control plane over the plain engine and a real keyring, without
// signatures.
type world struct {
	t     *testing.T
	api   *awsapi.API
	kms   *localkms.KMS
	plane *datastore.Plane
}

// reversed is a Sealer whose tokens bind purpose and content, and hide nothing.
type reversed struct{}

func (reversed) Seal(plain []byte, purpose string) (string, error) {
	return hex.EncodeToString([]byte(purpose)) + "." + hex.EncodeToString(plain), nil
}

func (reversed) Open(sealed, purpose string) ([]byte, error) {
	text, ok := strings.CutPrefix(sealed, hex.EncodeToString([]byte(purpose))+".")
	if !ok {
		return nil, errors.New("another purpose")
	}
	return hex.DecodeString(text)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	kms, err := localkms.Open(filepath.Join(t.TempDir(), "keyring"), account, region, rand.Reader, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := kms.GenerateDataKey(t.Context(), kms.OwnedKey(), nil)
	if err != nil {
		t.Fatal(err)
	}
	engine := memory.New(memory.Options{Clock: time.Now, Rand: rand.Reader})
	if err := engine.Create(t.Context(), "system", key); err != nil {
		t.Fatal(err)
	}
	system, err := engine.Open(t.Context(), "system", key)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	queue := job.NewQueue(job.Options{System: system, Workers: 4, NewID: newID, Clock: time.Now, Log: log})
	plane := datastore.New(datastore.Options{
		Partition: "aws", Region: region, Account: account, Engine: engine, System: system, Jobs: queue,
		Keyring: kms, OwnedKey: kms.OwnedKey(), Clock: time.Now, Random: rand.Reader, Log: log,
	})
	if err := queue.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { queue.Stop(); plane.Close() })
	return &world{t: t, kms: kms, plane: plane, api: &awsapi.API{
		Plane: plane, Tokens: reversed{},
		Endpoint: func(id string) string { return "http://tarn.test/datastore/" + id + "/r4/" },
	}}
}

func newID() string {
	raw := make([]byte, 16)
	rand.Read(raw)
	return hex.EncodeToString(raw)
}

// ServeHTTP is the API behind no door.
func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request *awsapi.Request
	if err == nil {
		request, err = w.api.Read(r, body)
	}
	if err == nil {
		_, err = request.Serve(r.Context(), out)
	}
	if err != nil {
		awsapi.WriteFault(out, err)
	}
}

// call sends one operation with a body as it stands.
func (w *world) call(operation, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "HealthLake."+operation)
	out := httptest.NewRecorder()
	w.ServeHTTP(out, r)
	return out
}

// ok is call that must succeed; the answer is decoded.
func (w *world) ok(operation string, in any) map[string]any {
	w.t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.t.Fatal(err)
	}
	out := w.call(operation, string(body))
	if out.Code != http.StatusOK {
		w.t.Fatalf("%s: %d %s", operation, out.Code, out.Body)
	}
	var answer map[string]any
	if err := json.Unmarshal(out.Body.Bytes(), &answer); err != nil {
		w.t.Fatal(err)
	}
	return answer
}

// refused is what an exception says.
type refused struct {
	Type    string `json:"__type"`
	Message string
	Lower   string `json:"message"`
}

func exception(t *testing.T, out *httptest.ResponseRecorder) refused {
	t.Helper()
	var e refused
	if err := json.Unmarshal(out.Body.Bytes(), &e); err != nil {
		t.Fatalf("%d %s: %v", out.Code, out.Body, err)
	}
	if e.Type != out.Header().Get("X-Amzn-ErrorType") || e.Message != e.Lower || e.Message == "" {
		t.Errorf("header %q, body %+v", out.Header().Get("X-Amzn-ErrorType"), e)
	}
	if got := out.Header().Get("Content-Type"); got != "application/x-amz-json-1.0" {
		t.Errorf("content type %q", got)
	}
	return e
}

// active creates a store and waits for it.
func (w *world) active(in map[string]any) string {
	w.t.Helper()
	in["DatastoreTypeVersion"] = "R4"
	id := w.ok("CreateFHIRDatastore", in)["DatastoreId"].(string)
	w.await(id, datastore.Active)
	return id
}

func (w *world) await(id string, want datastore.Status) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		d, err := w.plane.Describe(w.t.Context(), id)
		if err != nil {
			w.t.Fatal(err)
		}
		if d.Status == want {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("the store is %s, want %s", d.Status, want)
		}
	}
}
