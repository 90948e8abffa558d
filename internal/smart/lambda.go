package smart

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// LambdaTimeout is how long a token Lambda may take (HealthLake developer guide,
// "SMART on FHIR": under one second).
const LambdaTimeout = time.Second

// maxLambdaAnswer bounds a Lambda's answer in bytes; a token's claims are a
// fraction of it.
const maxLambdaAnswer = 256 << 10

// Invoker calls Lambda functions. An error of the function itself is an error.
type Invoker interface {
	// Invoke calls the function and gives its answer's JSON.
	Invoke(ctx context.Context, functionARN string, payload []byte) ([]byte, error)
}

// lambda asks a data store's token Lambda.
type lambda struct {
	arn    string
	invoke Invoker
	clock  func() time.Time
}

// lambdaEvent is what the function is given, in HealthLake's form.
type lambdaEvent struct {
	Endpoint  string `json:"datastoreEndpoint"`
	Operation string `json:"operationName"`
	Token     string `json:"bearerToken"`
}

// lambdaAnswer is what it gives back; further members are ignored.
type lambdaAnswer struct {
	Auth    *payload `json:"authPayload"`
	RoleARN string   `json:"iamRoleARN"`
}

// Verify asks the function.
func (l *lambda) Verify(ctx context.Context, token string, call Call) (Claims, error) {
	const op = "smart.lambda"
	event, err := json.Marshal(lambdaEvent{call.Endpoint, call.Operation, token})
	if err != nil {
		return Claims{}, unknown(op, "it is not text", err)
	}
	text, err := l.ask(ctx, event)
	if err != nil {
		return Claims{}, err
	}
	var answer lambdaAnswer
	if err := json.Unmarshal(text, &answer); err != nil {
		return Claims{}, broken(op, "the token Lambda's answer cannot be read", err)
	}
	if answer.Auth == nil {
		return Claims{}, broken(op, "the token Lambda's answer has no authPayload", nil)
	}
	return l.judge(&answer, call)
}

func (l *lambda) ask(ctx context.Context, event []byte) ([]byte, error) {
	const op = "smart.lambda"
	limited, cancel := context.WithTimeout(ctx, LambdaTimeout)
	defer cancel()
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1) // an Invoker that does not heed its context is not waited for
	go func() {
		text, err := l.invoke.Invoke(limited, l.arn, event)
		done <- result{text, err}
	}()
	select {
	case r := <-done:
		switch {
		case r.err != nil && limited.Err() != nil:
			return nil, l.gaveUp(ctx, r.err)
		case r.err != nil:
			return nil, failing(op, "the token Lambda failed", r.err)
		case len(r.text) > maxLambdaAnswer:
			return nil, broken(op, "the token Lambda's answer is too large", nil)
		}
		return r.text, nil
	case <-limited.Done():
		return nil, l.gaveUp(ctx, limited.Err())
	}
}

// gaveUp tells a slow function from a client that went away.
func (l *lambda) gaveUp(client context.Context, cause error) error {
	if client.Err() != nil {
		return fault.Wrap(fault.Canceled, "smart.lambda", client.Err())
	}
	return slow("smart.lambda", fmt.Sprintf("the token Lambda did not answer within %v", LambdaTimeout), cause)
}

func slow(op, what string, cause error) error {
	return &fault.Error{Kind: fault.Timeout, Op: op, Detail: what, Cause: cause}
}

// judge holds an answer against the contract: a no needs nothing else, a yes
// needs every required member.
func (l *lambda) judge(a *lambdaAnswer, call Call) (Claims, error) {
	const op = "smart.lambda"
	if !a.Auth.IsAuthorized {
		return Claims{}, unknown(op, "the token Lambda does not authorize it", nil)
	}
	c := a.Auth.claims()
	c.RoleARN = a.RoleARN
	switch {
	case len(c.Audience) == 0, a.Auth.NotBefore == nil, a.Auth.Expires == nil:
		return Claims{}, broken(op, "the token Lambda's authPayload lacks aud, nbf or exp", nil)
	case c.RoleARN == "":
		return Claims{}, broken(op, "the token Lambda's answer lacks iamRoleARN", nil)
	}
	if err := c.meantFor(op, call.Endpoint); err != nil {
		return Claims{}, err
	}
	return c, c.alive(op, l.clock())
}

// HTTPInvoker calls functions that are mapped to HTTP URLs: the event is the
// body of a POST, the answer that of a 200. Redirects are not followed: the
// event holds a token.
type HTTPInvoker struct {
	URLs      map[string]string // by function ARN
	Else      Invoker           // for functions without a URL; nil: there is none
	Transport http.RoundTripper // nil is net/http's
}

// Invoke posts the payload.
func (h *HTTPInvoker) Invoke(ctx context.Context, functionARN string, payload []byte) ([]byte, error) {
	address, mapped := h.URLs[functionARN]
	switch {
	case !mapped && h.Else != nil:
		return h.Else.Invoke(ctx, functionARN, payload)
	case !mapped:
		return nil, fmt.Errorf("no URL is configured for %s", functionARN)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: h.Transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("the function's URL answered %s", answer.Status), answer.Body.Close())
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxLambdaAnswer+1))
	return text, errors.Join(err, answer.Body.Close())
}
