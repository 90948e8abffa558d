package awsquery

import (
	"context"
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
)

// tokens keeps what it was asked and gives the same session to everybody.
type tokens struct {
	asked   iam.AssumeRole
	values  iam.Values
	lasting time.Duration
}

var given = iam.Session{
	Credentials: iam.Credentials{AccessKeyID: "ASIAGIVEN", SecretAccessKey: "secret"}, SessionToken: "token",
	Expiry:    time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	Principal: iam.Principal{ARN: "arn:aws:sts::111122223333:assumed-role/loader/night"},
}

func (t *tokens) AssumeRole(_ context.Context, _ iam.Principal, a iam.AssumeRole, v iam.Values) (iam.Session, error) {
	t.asked, t.values = a, v
	return given, nil
}

func (t *tokens) SessionToken(_ context.Context, _ iam.Principal, lasting time.Duration) (iam.Session, error) {
	t.lasting = lasting
	return given, nil
}

func form(text string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(text))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return r
}

// ask carries out a form as a service's; the answer's body, or an error.
func ask(api *API, service, text string) (string, error) {
	q, err := api.Read(service, form(text), []byte(text))
	if err != nil {
		return "", err
	}
	w := httptest.NewRecorder()
	err = q.Serve(context.Background(), w, Caller{Principal: iam.Principal{ARN: "arn:aws:iam::111122223333:root"}}, "id-1")
	return w.Body.String(), err
}

const stsVersion = "&Version=2011-06-15"

func TestSTSAnswers(t *testing.T) {
	tk := new(tokens)
	api := &API{Tokens: tk}
	const head, tail = ` xmlns="https://sts.amazonaws.com/doc/2011-06-15/">`, `<ResponseMetadata><RequestId>id-1</RequestId></ResponseMetadata>`
	const creds = `<Credentials><AccessKeyId>ASIAGIVEN</AccessKeyId><SecretAccessKey>secret</SecretAccessKey><SessionToken>token</SessionToken><Expiration>2026-01-02T03:04:05Z</Expiration></Credentials>`
	for text, want := range map[string]string{
		"Action=GetCallerIdentity": `<GetCallerIdentityResponse` + head + `<GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:root</Arn>` +
			`<UserId>111122223333</UserId><Account>111122223333</Account></GetCallerIdentityResult>` + tail + `</GetCallerIdentityResponse>`,
		"Action=GetSessionToken&DurationSeconds=900": `<GetSessionTokenResponse` + head + `<GetSessionTokenResult>` + creds + `</GetSessionTokenResult>` + tail + `</GetSessionTokenResponse>`,
		"Action=AssumeRole&RoleArn=r&RoleSessionName=night&DurationSeconds=901&ExternalId=x&Policy=%7B%7D": `<AssumeRoleResponse` + head + `<AssumeRoleResult>` + creds +
			`<AssumedRoleUser><Arn>` + given.Principal.ARN + `</Arn><AssumedRoleId>` + userID(given.Principal.ARN) + `</AssumedRoleId></AssumedRoleUser></AssumeRoleResult>` + tail + `</AssumeRoleResponse>`,
	} {
		if got, err := ask(api, ServiceSTS, text+stsVersion); err != nil || got != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", text, err, got, want)
		}
	}
	if tk.lasting != 900*time.Second || tk.values.ExternalID != "x" ||
		tk.asked != (iam.AssumeRole{Role: "r", SessionName: "night", Duration: 901 * time.Second, Policy: "{}"}) {
		t.Errorf("asked %+v", tk)
	}
}

func TestRefusedForms(t *testing.T) {
	api := &API{Tokens: new(tokens)}
	for text, kind := range map[string]fault.Kind{
		"":                         fault.UnknownOperation,
		"Action=GetCallerIdentity": fault.UnknownOperation, // no version
		"Action=GetCallerIdentity&Version=2010-05-08":                                         fault.UnknownOperation,
		"Action=DropTables" + stsVersion:                                                      fault.UnknownOperation,
		"Action=GetCallerIdentity&Extra=1" + stsVersion:                                       fault.NotSupported,
		"Action=GetCallerIdentity&Action=AssumeRole" + stsVersion:                             fault.Invalid,
		"Action=AssumeRole" + stsVersion:                                                      fault.Invalid,
		"Action=AssumeRole&RoleArn=a&RoleArn=b&RoleSessionName=xx" + stsVersion:               fault.Invalid,
		"Action=AssumeRole&RoleArn=a&PolicyArns.member.1.arn=b" + stsVersion:                  fault.NotSupported,
		"Action=GetSessionToken&DurationSeconds=-1" + stsVersion:                              fault.Invalid,
		"Action=GetSessionToken&DurationSeconds=0" + stsVersion:                               fault.Invalid,
		"Action=GetSessionToken&DurationSeconds=99999999999" + stsVersion:                     fault.Invalid,
		"Action=GetSessionToken&SerialNumber=a" + stsVersion:                                  fault.NotSupported,
		"Action=GetSessionToken%ZZ" + stsVersion:                                              fault.Serialization,
		"Action=GetCallerIdentity&X-Amz-Signature=in-the-body-it-is-a-parameter" + stsVersion: fault.NotSupported,
	} {
		if got, err := ask(api, ServiceSTS, text); !fault.Is(err, kind) {
			t.Errorf("%s: %v %s, want %v", text, err, got, kind)
		}
	}
	if _, err := ask(api, "healthlake", "Action=GetCallerIdentity"+stsVersion); !fault.Is(err, fault.UnknownOperation) {
		t.Errorf("another service: %v", err)
	}
}

// A presigned GET names its action in the query, beside the signature.
func TestPresignedForm(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/?Action=GetCallerIdentity"+stsVersion+"&X-Amz-Signature=0", http.NoBody)
	if !Presented(r) {
		t.Error("not taken for this protocol")
	}
	if _, err := (&API{}).Read(ServiceSTS, r, nil); err != nil {
		t.Error(err)
	}
}

func TestPresented(t *testing.T) {
	target := form("Action=a")
	target.Header.Set("X-Amz-Target", "HealthLake.ListFHIRDatastores")
	for name, c := range map[string]struct {
		r    *http.Request
		want bool
	}{
		"a form":            {form("Action=a"), true},
		"JSON":              {httptest.NewRequest(http.MethodPost, "/", strings.NewReader("{}")), false},
		"a target":          {target, false},
		"GET without":       {httptest.NewRequest(http.MethodGet, "/", http.NoBody), false},
		"DELETE, an action": {httptest.NewRequest(http.MethodDelete, "/?Action=a", http.NoBody), false},
	} {
		if got := Presented(c.r); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Every kind of refusal is XML with a code, and nothing inner shows.
func TestFaults(t *testing.T) {
	for _, kind := range fault.Kinds() {
		w := httptest.NewRecorder()
		w.Header().Set("x-amzn-RequestId", "id-1")
		WriteFault(w, &fault.Error{Kind: kind, Retry: 3, Cause: errors.New("inner")})
		var said errorResponse
		if err := xml.Unmarshal(w.Body.Bytes(), &said); err != nil || said.Error.Code == "" || said.Error.Message == "" || said.RequestID != "id-1" || w.Code < 400 {
			t.Errorf("%v: %d %s, %v", kind, w.Code, w.Body, err)
		}
		if strings.Contains(w.Body.String(), "inner") || w.Header().Get("Retry-After") != "3" {
			t.Errorf("%v: %v %s", kind, w.Header(), w.Body)
		}
		if (w.Code >= 500) != (said.Error.Type == "Receiver") && kind != fault.Unavailable {
			t.Errorf("%v: %d is the %s's fault", kind, w.Code, said.Error.Type)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(ServiceSTS, "Action=AssumeRole&RoleArn=r&RoleSessionName=night&DurationSeconds=900"+stsVersion)
	f.Add(ServiceSTS, "Action=GetCallerIdentity"+stsVersion)
	f.Fuzz(func(t *testing.T, service, text string) {
		got, err := ask(&API{Tokens: new(tokens)}, service, text)
		if err != nil {
			fault.From(err).Kind.Row()
			return
		}
		if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
			t.Errorf("%s: %v", got, err)
		}
	})
}
