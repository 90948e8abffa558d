package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/tarn-fhir/tarn/internal/iam"
)

// connection is where the operator's commands find the server, and as whom.
type connection struct {
	Endpoint  string `help:"Where the server answers." default:"http://127.0.0.1:8080" env:"TARN_ENDPOINT"`
	Data      string `help:"The server's data folder, for its credentials file." default:"./tarn-data" env:"TARN_DATA"`
	Region    string `help:"Region to sign for." default:"us-east-1" env:"TARN_REGION,AWS_REGION"`
	AccessKey string `help:"Access key id; else the environment, else the credentials file." env:"TARN_ROOT_ACCESS_KEY_ID"`
	SecretKey string `help:"Secret access key." env:"TARN_ROOT_SECRET_ACCESS_KEY"`
	Output    string `help:"How to print: ${enum}." enum:"table,json" default:"table" env:"TARN_OUTPUT"`
}

// credentialsFile is where a server keeps the key that it made.
func credentialsFile(data string) string { return filepath.Join(data, "credentials") }

func (c connection) credentials() (iam.Credentials, error) {
	if c.AccessKey != "" && c.SecretKey != "" {
		return iam.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.SecretKey}, nil
	}
	found, err := iam.Load(credentialsFile(c.Data))
	if err != nil {
		return found, fmt.Errorf("no access key: %w (give --data, or TARN_ROOT_ACCESS_KEY_ID and TARN_ROOT_SECRET_ACCESS_KEY)", err)
	}
	return found, nil
}

// maxAnswer bounds what the client reads of an answer, in bytes.
const maxAnswer = 16 << 20

// call carries out one operation of the control plane; the same signed request
// that any AWS client sends.
func (c connection) call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "HealthLake."+operation)
	if err := c.sign(ctx, req, body, "healthlake"); err != nil {
		return err
	}
	reply, err := fetched(req)
	if err != nil {
		return err
	}
	if reply.code != http.StatusOK {
		return refusal(reply)
	}
	return json.Unmarshal(reply.body, out)
}

// reply is an answer, read whole.
type reply struct {
	code   int
	status string // "404 Not Found"
	body   []byte
}

// fetched sends a request and reads its answer.
func fetched(req *http.Request) (reply, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return reply{resp.StatusCode, resp.Status, body}, err
}

func (c connection) sign(ctx context.Context, req *http.Request, body []byte, service string) error {
	key, err := c.credentials()
	if err != nil {
		return err
	}
	return c.signWith(ctx, req, body, service, aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey})
}

func (c connection) signWith(ctx context.Context, req *http.Request, body []byte, service string, key aws.Credentials) error {
	sum := sha256.Sum256(body)
	return v4.NewSigner().SignHTTP(ctx, key, req, hex.EncodeToString(sum[:]), service, c.Region, time.Now())
}

func refusal(r reply) error {
	var said struct {
		Type    string `json:"__type"`
		Message string
	}
	if err := json.Unmarshal(r.body, &said); err != nil || said.Type == "" {
		return fmt.Errorf("the server answered %s", r.status)
	}
	return fmt.Errorf("%s: %s", said.Type, said.Message)
}

// printJSON prints indented JSON.
func printJSON(v any) error {
	enc := json.NewEncoder(os.Stdout)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
