package audit

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/iam"
)

// eventVersion is the version of CloudTrail's record format whose members are
// written (CloudTrail user guide, "CloudTrail record contents").
const eventVersion = "1.08"

// maxText bounds what strangers choose (user agents, names in tokens), in bytes:
// what is longer is cut. CloudTrail cuts user agents at 1 KB as well.
const maxText = 1024

// record is a CloudTrail record, with AdditionalEventData as Tarn's own part.
// Parameters of requests and what was answered are left out: they hold search
// values, resources and credentials.
type record struct {
	EventVersion       string     `json:"eventVersion"`
	UserIdentity       identity   `json:"userIdentity"`
	EventTime          string     `json:"eventTime"` // UTC, in seconds, as CloudTrail's
	EventSource        string     `json:"eventSource"`
	EventName          string     `json:"eventName"`
	Region             string     `json:"awsRegion"`
	Source             string     `json:"sourceIPAddress"`
	Agent              string     `json:"userAgent"`
	ErrorCode          string     `json:"errorCode,omitempty"`
	ErrorMessage       string     `json:"errorMessage,omitempty"`
	RequestParameters  *struct{}  `json:"requestParameters"` // always null
	ResponseElements   *struct{}  `json:"responseElements"`  // always null
	Additional         additional `json:"additionalEventData"`
	RequestID          string     `json:"requestID"`
	EventID            string     `json:"eventID"`
	ReadOnly           bool       `json:"readOnly"`
	Resources          []resource `json:"resources,omitempty"`
	EventType          string     `json:"eventType"`
	ManagementEvent    bool       `json:"managementEvent"`
	RecipientAccountID string     `json:"recipientAccountId"`
	EventCategory      string     `json:"eventCategory"` // "Management" or "Data"
}

// identity is who asked. Type is "Root", "IAMUser", "AssumedRole" or "Role" for
// principals of the account, "WebIdentityUser" for apps with a token, "Unknown"
// for everybody else.
type identity struct {
	Type             string `json:"type"`
	ARN              string `json:"arn,omitempty"`
	AccountID        string `json:"accountId,omitempty"`
	AccessKeyID      string `json:"accessKeyId,omitempty"`
	UserName         string `json:"userName,omitempty"`         // the token's subject
	IdentityProvider string `json:"identityProvider,omitempty"` // the token's issuer
}

type resource struct {
	ARN       string `json:"ARN"`
	AccountID string `json:"accountId"`
	Type      string `json:"type"`
}

// datastoreType is CloudFormation's name of data stores, which CloudTrail uses.
const datastoreType = "AWS::HealthLake::FHIRDatastore"

type additional struct {
	Status             int      `json:"httpStatus"`
	Plane              string   `json:"plane,omitempty"`
	Datastore          string   `json:"datastoreId,omitempty"`
	Resources          []Target `json:"fhirResources,omitempty"`
	Reason             string   `json:"reason,omitempty"`
	Forbidden          []string `json:"forbiddenActions,omitempty"`
	ClaimedAccessKeyID string   `json:"claimedAccessKeyId,omitempty"`
	App                *App     `json:"app,omitempty"`
	TLS                bool     `json:"tls"`
}

// TrailOptions says whose records are written, and where to.
type TrailOptions struct {
	Out       io.Writer // takes a whole line with each Write, from several goroutines: *File
	Partition string
	Region    string
	Account   string    // 12 digits
	Random    io.Reader // ids of events
	Log       *slog.Logger
}

// Trail records events as JSON lines in the form of CloudTrail's records.
type Trail struct{ TrailOptions }

// NewTrail writes to o.Out.
func NewTrail(o TrailOptions) *Trail { return &Trail{o} }

// Record writes one line; an event that cannot be written is told to the log.
func (t *Trail) Record(_ context.Context, e Event) {
	line, err := t.line(e)
	if err == nil {
		_, err = t.Out.Write(line)
	}
	if err != nil {
		t.Log.Error("an audit event is lost", "request", e.RequestID, "action", e.Action, "status", e.Status, "error", err)
	}
}

func (t *Trail) line(e Event) ([]byte, error) {
	id, err := arn.NewRequestID(t.Random) // a UUID, as CloudTrail's
	if err != nil {
		return nil, err
	}
	raw, err := json.Marshal(t.record(e, id))
	return append(raw, '\n'), err
}

func (t *Trail) record(e Event, id string) record {
	service, category := e.Service, "Management"
	if service == "" {
		service = arn.Service
	}
	if e.Plane == "data" {
		category = "Data"
	}
	return record{
		EventVersion: eventVersion, UserIdentity: t.identity(e), EventTime: e.Time.UTC().Format(time.RFC3339),
		EventSource: service + ".amazonaws.com", EventName: cut(e.Action), Region: t.Region, Source: e.Source, Agent: cut(e.Agent),
		ErrorCode: e.Code, ErrorMessage: e.Message, Additional: added(e), RequestID: e.RequestID, EventID: id,
		ReadOnly: readOnly(service, e.Action), Resources: t.about(e.Datastore), EventType: "AwsApiCall",
		ManagementEvent: category == "Management", RecipientAccountID: t.Account, EventCategory: category,
	}
}

func added(e Event) additional {
	a := additional{
		Status: e.Status, Plane: e.Plane, Datastore: e.Datastore, Resources: e.Resources, Reason: e.Denied,
		Forbidden: e.Forbidden, App: e.App.cut(), TLS: e.TLS,
	}
	if isKeyID(e.Claimed) {
		a.ClaimedAccessKeyID = e.Claimed
	}
	return a
}

func (t *Trail) about(datastore string) []resource {
	if datastore == "" {
		return nil
	}
	return []resource{{ARN: arn.Datastore(t.Partition, t.Region, t.Account, datastore), AccountID: t.Account, Type: datastoreType}}
}

func (t *Trail) identity(e Event) identity {
	who := identity{Type: principalType(e.Principal), ARN: e.Principal, AccessKeyID: e.AccessKey}
	if e.Principal != "" {
		who.AccountID = t.Account
	}
	if app := e.App.cut(); app != nil {
		who.Type, who.UserName, who.IdentityProvider = "WebIdentityUser", app.Subject, app.Issuer
	}
	return who
}

// principalType is CloudTrail's userIdentity.type of an ARN.
func principalType(principal string) string {
	parsed, err := arn.Parse(principal)
	if err != nil {
		return "Unknown"
	}
	kind, _, _ := strings.Cut(parsed.Resource, "/")
	if name, known := principalTypes[kind]; known {
		return name
	}
	return "Unknown"
}

var principalTypes = map[string]string{"root": "Root", "user": "IAMUser", "role": "Role", "assumed-role": "AssumedRole"}

// changes are the actions of the catalogue, and whether they change something.
var changes = func() map[string]bool {
	all := map[string]bool{}
	for _, a := range iam.Actions() {
		all[a.Name] = a.Level != iam.LevelList && a.Level != iam.LevelRead
	}
	return all
}()

// readOnly says whether an action changes nothing. Of those that are not in the
// catalogue of actions the name says it; an unknown one may change something.
func readOnly(service, action string) bool {
	if change, known := changes[service+":"+action]; known {
		return !change
	}
	return strings.HasPrefix(action, "Describe") || strings.HasPrefix(action, "List") || strings.HasPrefix(action, "Get")
}

// The length of access key ids, in characters (IAM API reference, AccessKey:
// 16 to 128); secrets are 40 characters, and no key id that is met is so long.
const (
	minKeyID = 16
	maxKeyID = 32
)

// isKeyID keeps what only claims to be an access key id, and may be a secret that
// was put in the wrong place, out of the record.
func isKeyID(s string) bool {
	if len(s) < minKeyID || len(s) > maxKeyID {
		return false
	}
	return strings.HasPrefix(s, "AKIA") || strings.HasPrefix(s, "ASIA")
}

// cut bounds a text, and leaves it valid UTF-8.
func cut(text string) string {
	if len(text) > maxText {
		text = text[:maxText]
	}
	return strings.ToValidUTF8(text, "")
}

func (a *App) cut() *App {
	if a == nil {
		return nil
	}
	return &App{Issuer: cut(a.Issuer), Client: cut(a.Client), Subject: cut(a.Subject), User: cut(a.User), Patient: cut(a.Patient)}
}
