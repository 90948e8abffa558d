package process

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"gopkg.in/ini.v1"
)

// Client sends signed requests to one server.
type Client struct {
	URL    string // the server's
	Key    aws.Credentials
	Region string
	Clock  func() time.Time
	HTTP   *http.Client
}

// maxConns is how many connections a client keeps to its server.
const maxConns = 256

// requestTimeout bounds one request, answer included.
const requestTimeout = 2 * time.Minute

// Client gives a client with the root's key, from the server's credentials file.
func (s *Server) Client() (*Client, error) {
	key, err := Credentials(filepath.Join(s.Data, "credentials"))
	if err != nil {
		return nil, err
	}
	return NewClient(s.URL, key), nil
}

// NewClient makes a client.
func NewClient(server string, key aws.Credentials) *Client {
	return &Client{
		URL: server, Key: key, Region: "us-east-1", Clock: time.Now,
		HTTP: &http.Client{Timeout: requestTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: maxConns}},
	}
}

// Credentials reads the profile tarn of a shared credentials file, as any AWS
// client does.
func Credentials(path string) (aws.Credentials, error) {
	file, err := ini.Load(path)
	if err != nil {
		return aws.Credentials{}, err
	}
	profile := file.Section("tarn")
	return aws.Credentials{
		AccessKeyID:     profile.Key("aws_access_key_id").String(),
		SecretAccessKey: profile.Key("aws_secret_access_key").String(),
	}, nil
}

// Request is one request; Header may be nil.
type Request struct {
	Method string
	URL    string
	Header map[string]string
	Body   []byte
}

// Response is an answer, read whole.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Sign makes a signed request.
func (c *Client) Sign(ctx context.Context, r Request) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, r.Method, r.URL, bytes.NewReader(r.Body))
	if err != nil {
		return nil, err
	}
	for name, value := range r.Header {
		req.Header.Set(name, value)
	}
	sum := sha256.Sum256(r.Body)
	return req, v4.NewSigner().SignHTTP(ctx, c.Key, req, hex.EncodeToString(sum[:]), "healthlake", c.Region, c.Clock())
}

// Do signs and sends a request. An error is one of the connection; statuses are
// the caller's to judge.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	req, err := c.Sign(ctx, r)
	if err != nil {
		return nil, err
	}
	return c.Send(req)
}

// Send sends a request as it is.
func (c *Client) Send(req *http.Request) (*Response, error) {
	answer, err := c.HTTP.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	return &Response{Status: answer.StatusCode, Header: answer.Header, Body: body}, nil
}

// Exception is an error answer of the control plane.
type Exception struct {
	Status  int
	Type    string `json:"__type"`
	Message string
}

func (e *Exception) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Type, e.Message) }

// Control carries out one operation of the control plane; the error is an
// *Exception when the server said no.
func (c *Client) Control(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := c.Do(ctx, Request{Method: http.MethodPost, URL: c.URL + "/", Body: body, Header: map[string]string{
		"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": "HealthLake." + operation,
	}})
	if err != nil {
		return err
	}
	if answer.Status == http.StatusOK {
		return json.Unmarshal(answer.Body, out)
	}
	refused := &Exception{Status: answer.Status}
	if err := json.Unmarshal(answer.Body, refused); err != nil {
		return fmt.Errorf("%d %q: %w", answer.Status, answer.Body, err)
	}
	return refused
}

// Datastore is what Describe says of a data store, as far as tests ask.
type Datastore struct {
	DatastoreID          string `json:"DatastoreId"`
	DatastoreArn         string
	DatastoreName        string
	DatastoreStatus      string
	DatastoreTypeVersion string
	DatastoreEndpoint    string
	CreatedAt            float64
	ErrorCause           *struct{ ErrorMessage, ErrorCategory string }
}

// Describe asks for a data store.
func (c *Client) Describe(ctx context.Context, id string) (Datastore, error) {
	var answer struct{ DatastoreProperties Datastore }
	err := c.Control(ctx, "DescribeFHIRDatastore", map[string]string{"DatastoreId": id}, &answer)
	return answer.DatastoreProperties, err
}

// List lists all data stores, page by page.
func (c *Client) List(ctx context.Context) ([]Datastore, error) {
	var all []Datastore
	in := map[string]any{}
	for {
		var page struct {
			DatastorePropertiesList []Datastore
			NextToken               string
		}
		if err := c.Control(ctx, "ListFHIRDatastores", in, &page); err != nil {
			return nil, err
		}
		all = append(all, page.DatastorePropertiesList...)
		if page.NextToken == "" {
			return all, nil
		}
		in["NextToken"] = page.NextToken
	}
}

// Create creates a data store; members go beside DatastoreTypeVersion R4.
func (c *Client) Create(ctx context.Context, members map[string]any) (Datastore, error) {
	in := map[string]any{"DatastoreTypeVersion": "R4"}
	for name, value := range members {
		in[name] = value
	}
	var d Datastore
	return d, c.Control(ctx, "CreateFHIRDatastore", in, &d)
}

// statusPoll is how often Await asks.
const statusPoll = 25 * time.Millisecond

// Await asks until the data store is in the state, or in another one that it
// does not leave by itself.
func (c *Client) Await(ctx context.Context, id, status string) (Datastore, error) {
	for {
		d, err := c.Describe(ctx, id)
		if err != nil || d.DatastoreStatus == status {
			return d, err
		}
		if final := "CREATE_FAILED ACTIVE DELETED"; strings.Contains(final, d.DatastoreStatus) && !(d.DatastoreStatus == "ACTIVE" && status == "DELETED") {
			return d, fmt.Errorf("the data store is %s, not %s: %+v", d.DatastoreStatus, status, d.ErrorCause)
		}
		select {
		case <-ctx.Done():
			return d, fmt.Errorf("the data store is still %s: %w", d.DatastoreStatus, ctx.Err())
		case <-time.After(statusPoll):
		}
	}
}

// jobPoll is how often a job is asked for: jobs are measured by when they end.
const jobPoll = 20 * time.Millisecond

// AwaitJob waits until a job of a data store ended well.
func (c *Client) AwaitJob(ctx context.Context, store, id string) error {
	for {
		var answer struct {
			Job struct{ JobStatus, Message string }
		}
		if err := c.Control(ctx, "DescribeJob", map[string]string{"DatastoreId": store, "JobId": id}, &answer); err != nil {
			return err
		}
		switch answer.Job.JobStatus {
		case "COMPLETED":
			return nil
		case "SUBMITTED", "QUEUED", "IN_PROGRESS":
		default:
			return fmt.Errorf("the job is %s: %s", answer.Job.JobStatus, answer.Job.Message)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(jobPoll):
		}
	}
}

// Base is the FHIR base URL of a data store on this server, without the slash at
// its end.
func (c *Client) Base(id string) string { return c.URL + "/datastore/" + id + "/r4" }

// Key is an access key.
func Key(id, secret string) aws.Credentials {
	return aws.Credentials{AccessKeyID: id, SecretAccessKey: secret}
}
