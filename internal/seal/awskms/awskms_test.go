package awskms

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/seal"
)

const (
	prefix = "arn:aws:kms:us-east-1:111122223333:key/"
	keyID  = "0a1b2c3d-1111-4222-8333-444455556666"
)

var storeContext = map[string]string{seal.ContextDatastore: "arn:aws:healthlake:us-east-1:111122223333:datastore/fhir/0123"}

// fakeKey is one key of fakeKMS.
type fakeKey struct {
	Arn, KeyState, KeySpec, KeyUsage, KeyManager string
	Enabled                                      bool
}

// fakeKMS speaks awsJson1_1 as AWS KMS does, and remembers what it was asked. A
// ciphertext is its own plaintext, key and context as JSON.
type fakeKMS struct {
	keys   map[string]*fakeKey // by id and by alias
	fail   string              // an error code that every request gets
	status int                 // with that status; 0: 400
	asked  []string
}

type request struct {
	KeyId, KeySpec    string
	CiphertextBlob    []byte
	EncryptionContext map[string]string
}

type blob struct {
	Key       string
	Context   map[string]string
	Plaintext []byte
}

type refusal string

func (r refusal) Error() string { return string(r) }

func (f *fakeKMS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	answer, err := f.answer(r)
	if err != nil {
		w.Header().Set("X-Amzn-RequestId", "fake")
		status := f.status
		if status == 0 {
			status = http.StatusBadRequest
		}
		w.WriteHeader(status)
		answer = map[string]string{"__type": err.Error(), "message": "arn:aws:iam::111122223333:role/secret-role says no"}
	}
	_ = json.NewEncoder(w).Encode(answer) // the client went away: the test will say so
}

func (f *fakeKMS) answer(r *http.Request) (any, error) {
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	if !ok || !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ") {
		return nil, refusal("IncompleteSignature")
	}
	var in request
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		return nil, refusal("SerializationException")
	}
	f.asked = append(f.asked, operation+" "+in.KeyId)
	if f.fail != "" {
		return nil, refusal(f.fail)
	}
	key := f.keys[strings.TrimPrefix(in.KeyId, prefix)]
	if key == nil {
		return nil, refusal("NotFoundException")
	}
	if operation == "DescribeKey" {
		return map[string]any{"KeyMetadata": key}, nil
	}
	if err := key.usable(); err != nil {
		return nil, err
	}
	if operation == "GenerateDataKey" && in.KeySpec == "AES_256" {
		plain := bytes.Repeat([]byte{byte(len(f.asked))}, 32)
		sealed, err := json.Marshal(blob{key.Arn, in.EncryptionContext, plain})
		return map[string]any{"KeyId": key.Arn, "Plaintext": plain, "CiphertextBlob": sealed}, err
	}
	if operation == "Decrypt" {
		return key.decrypt(in)
	}
	return nil, refusal("UnsupportedOperationException")
}

func (k *fakeKey) usable() error {
	switch {
	case k.KeySpec != "SYMMETRIC_DEFAULT":
		return refusal("InvalidKeyUsageException")
	case k.KeyState == "Disabled":
		return refusal("DisabledException")
	case k.KeyState != "Enabled":
		return refusal("KMSInvalidStateException")
	}
	return nil
}

func (k *fakeKey) decrypt(in request) (any, error) {
	var b blob
	if json.Unmarshal(in.CiphertextBlob, &b) != nil || !maps.Equal(b.Context, in.EncryptionContext) {
		return nil, refusal("InvalidCiphertextException")
	}
	if b.Key != k.Arn {
		return nil, refusal("IncorrectKeyException")
	}
	return map[string]any{"KeyId": k.Arn, "Plaintext": b.Plaintext}, nil
}

// started is the real SDK client before a fake KMS with one key.
func started(t *testing.T) (*Keyring, *fakeKMS) {
	t.Helper()
	key := &fakeKey{prefix + keyID, "Enabled", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "CUSTOMER", true}
	fake := &fakeKMS{keys: map[string]*fakeKey{keyID: key, "alias/records": key}}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	return New(client(server.URL)), fake
}

func client(url string) *kms.Client {
	return kms.New(kms.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(url), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("AKIAIOSFODNN7EXAMPLE", "secret", ""),
	})
}

func TestDataKeyGoesRound(t *testing.T) {
	ring, fake := started(t)
	for _, name := range []string{keyID, "key/" + keyID, prefix + keyID, "alias/records"} {
		made, wrapped, err := ring.GenerateDataKey(t.Context(), name, storeContext)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if wrapped.KeyARN != prefix+keyID || !made.Usable() {
			t.Errorf("%s: wrapped with %s", name, wrapped.KeyARN)
		}
		opened, err := ring.Unwrap(t.Context(), wrapped, storeContext)
		if err != nil || !opened.Equal(made) {
			t.Errorf("%s: the data key does not come back: %v", name, err)
		}
		info, err := ring.Resolve(t.Context(), name)
		want := seal.KeyInfo{ARN: prefix + keyID, Enabled: true, Symmetric: true, Manager: "CUSTOMER", State: "Enabled"}
		if err != nil || info != want {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
	if got, want := fmt.Sprint(fake.asked[3:6]), fmt.Sprint([]string{"GenerateDataKey " + keyID, "Decrypt " + prefix + keyID, "DescribeKey " + keyID}); got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestUnwrapIsBound(t *testing.T) {
	ring, fake := started(t)
	fake.keys["other"] = &fakeKey{prefix + "other", "Enabled", "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT", "CUSTOMER", true}
	_, wrapped, err := ring.GenerateDataKey(t.Context(), keyID, storeContext)
	if err != nil {
		t.Fatal(err)
	}
	other := seal.Wrapped{KeyARN: prefix + "other", Ciphertext: wrapped.Ciphertext}
	for name, c := range map[string]struct {
		w       seal.Wrapped
		context map[string]string
	}{
		"other context": {wrapped, map[string]string{seal.ContextDatastore: "arn:x"}},
		"no context":    {wrapped, nil},
		"other key":     {other, storeContext},
		"not a blob":    {seal.Wrapped{KeyARN: wrapped.KeyARN, Ciphertext: []byte("x")}, storeContext},
	} {
		if opened, err := ring.Unwrap(t.Context(), c.w, c.context); !fault.Is(err, fault.Forbidden) || opened.Usable() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeyStates(t *testing.T) {
	for _, c := range []struct {
		name string
		key  fakeKey
		info seal.KeyInfo
		use  fault.Kind
	}{
		{"disabled", fakeKey{KeyState: "Disabled"}, seal.KeyInfo{Symmetric: true}, fault.Forbidden},
		{"pending deletion", fakeKey{KeyState: "PendingDeletion"}, seal.KeyInfo{Symmetric: true}, fault.Forbidden},
		{"store away", fakeKey{KeyState: "Unavailable"}, seal.KeyInfo{Symmetric: true}, fault.Unavailable},
		{"no material", fakeKey{KeyState: "PendingImport"}, seal.KeyInfo{Symmetric: true}, fault.Forbidden},
		{"asymmetric", fakeKey{KeyState: "Enabled", Enabled: true, KeySpec: "RSA_2048"}, seal.KeyInfo{Enabled: true}, fault.Invalid},
		{"for signatures", fakeKey{KeyState: "Enabled", Enabled: true, KeySpec: "HMAC_256", KeyUsage: "GENERATE_VERIFY_MAC"}, seal.KeyInfo{Enabled: true}, fault.Invalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			ring, fake := started(t)
			_, wrapped, err := ring.GenerateDataKey(t.Context(), keyID, storeContext)
			if err != nil {
				t.Fatal(err)
			}
			now := fake.keys[keyID]
			now.KeyState, now.Enabled = c.key.KeyState, c.key.Enabled
			if c.key.KeySpec != "" {
				now.KeySpec = c.key.KeySpec
			}
			if c.key.KeyUsage != "" {
				now.KeyUsage = c.key.KeyUsage
			}
			c.info.ARN, c.info.Manager, c.info.State = prefix+keyID, "CUSTOMER", c.key.KeyState
			if info, err := ring.Resolve(t.Context(), keyID); err != nil || info != c.info {
				t.Errorf("resolved to %+v, %v", info, err)
			}
			if _, err := ring.Unwrap(t.Context(), wrapped, storeContext); !fault.Is(err, c.use) {
				t.Errorf("Unwrap: %v", err)
			}
			if _, _, err := ring.GenerateDataKey(t.Context(), keyID, storeContext); !fault.Is(err, c.use) {
				t.Errorf("GenerateDataKey: %v", err)
			}
		})
	}
}

// everyway asks all three questions.
func everyway(t *testing.T, ctx context.Context, ring *Keyring, kind fault.Kind) {
	t.Helper()
	_, _, generate := ring.GenerateDataKey(ctx, keyID, storeContext)
	_, unwrap := ring.Unwrap(ctx, seal.Wrapped{KeyARN: prefix + keyID, Ciphertext: []byte("x")}, storeContext)
	_, resolve := ring.Resolve(ctx, keyID)
	for name, err := range map[string]error{"GenerateDataKey": generate, "Unwrap": unwrap, "Resolve": resolve} {
		if !fault.Is(err, kind) {
			t.Errorf("%s: %v, want %v", name, err, kind)
			continue
		}
		if message := fault.From(err).Message(); strings.Contains(message, "secret-role") {
			t.Errorf("%s tells the client: %s", name, message)
		}
	}
}

func TestErrorCodes(t *testing.T) {
	for _, c := range []struct {
		code   string
		status int
		kind   fault.Kind
	}{
		{"NotFoundException", 400, fault.NotFound},
		{"AccessDeniedException", 400, fault.Forbidden},
		{"DisabledException", 400, fault.Forbidden},
		{"ValidationException", 400, fault.Invalid},
		{"InvalidArnException", 400, fault.Invalid},
		{"ThrottlingException", 400, fault.Unavailable},
		{"LimitExceededException", 400, fault.Unavailable},
		{"KeyUnavailableException", 500, fault.Unavailable},
		{"DependencyTimeoutException", 503, fault.Unavailable},
		{"KMSInternalException", 500, fault.Unavailable},
		{"UnrecognizedClientException", 400, fault.Unavailable},
		{"ExpiredTokenException", 400, fault.Unavailable},
		{"InvalidSignatureException", 403, fault.Unavailable},
		{"SomethingNew", 400, fault.Unavailable},
	} {
		t.Run(c.code, func(t *testing.T) {
			ring, fake := started(t)
			fake.fail, fake.status = c.code, c.status
			everyway(t, t.Context(), ring, c.kind)
		})
	}
}

func TestUnreachable(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	everyway(t, t.Context(), New(client(gone.URL)), fault.Unavailable)
	nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "<html>proxy</html>", http.StatusBadGateway)
	}))
	defer nonsense.Close()
	everyway(t, t.Context(), New(client(nonsense.URL)), fault.Unavailable)
}

func TestEndedContext(t *testing.T) {
	ring, _ := started(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	everyway(t, canceled, ring, fault.Canceled)
	late, cancelLate := context.WithTimeout(t.Context(), 0)
	defer cancelLate()
	everyway(t, late, ring, fault.Timeout)
}

// answers is an API that gives back what it holds.
type answers struct {
	generate *kms.GenerateDataKeyOutput
	decrypt  *kms.DecryptOutput
	describe *kms.DescribeKeyOutput
}

func (a answers) GenerateDataKey(context.Context, *kms.GenerateDataKeyInput, ...func(*kms.Options)) (*kms.GenerateDataKeyOutput, error) {
	return a.generate, nil
}

func (a answers) Decrypt(context.Context, *kms.DecryptInput, ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	return a.decrypt, nil
}

func (a answers) DescribeKey(context.Context, *kms.DescribeKeyInput, ...func(*kms.Options)) (*kms.DescribeKeyOutput, error) {
	return a.describe, nil
}

func TestUnsoundAnswers(t *testing.T) {
	plain := func() []byte { return bytes.Repeat([]byte{1}, 32) }
	arn := aws.String(prefix + keyID)
	for name, a := range map[string]answers{
		"nothing":    {&kms.GenerateDataKeyOutput{}, &kms.DecryptOutput{}, &kms.DescribeKeyOutput{}},
		"half a key": {&kms.GenerateDataKeyOutput{KeyId: arn, Plaintext: plain()[:16], CiphertextBlob: plain()}, &kms.DecryptOutput{KeyId: arn, Plaintext: plain()[:16]}, &kms.DescribeKeyOutput{}},
		"no blob":    {&kms.GenerateDataKeyOutput{KeyId: arn, Plaintext: plain()}, &kms.DecryptOutput{Plaintext: plain()}, &kms.DescribeKeyOutput{}},
		"other key":  {&kms.GenerateDataKeyOutput{Plaintext: plain(), CiphertextBlob: plain()}, &kms.DecryptOutput{KeyId: aws.String("arn:other"), Plaintext: plain()}, &kms.DescribeKeyOutput{}},
	} {
		t.Run(name, func(t *testing.T) { everyway(t, t.Context(), New(a), fault.FailedDependency) })
	}
}
