// Package awslambda calls token Lambdas through AWS Lambda, or what speaks its
// protocol.
//
//	Invoke   lambda:InvokeFunction, synchronously, the event as payload
//
// The caller makes the client, so that regions, credentials and endpoints are
// those of the AWS SDK and its environment variables (AWS_ENDPOINT_URL_LAMBDA
// names a local runtime):
//
//	config, err := config.LoadDefaultConfig(ctx)
//	invoker := awslambda.New(lambda.NewFromConfig(config))
package awslambda

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	"github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// API is what is used of *lambda.Client.
type API interface {
	Invoke(context.Context, *lambda.InvokeInput, ...func(*lambda.Options)) (*lambda.InvokeOutput, error)
}

// Invoker is a smart.Invoker over AWS Lambda.
type Invoker struct{ api API }

// New makes an Invoker of a client.
func New(api API) *Invoker { return &Invoker{api} }

// Invoke calls a function and gives its answer's JSON. A function that ended in
// an error (FunctionError) is an error; what it said is not repeated, as it may
// hold the token.
func (i *Invoker) Invoke(ctx context.Context, functionARN string, payload []byte) ([]byte, error) {
	out, err := i.api.Invoke(ctx, &lambda.InvokeInput{
		FunctionName: aws.String(functionARN), InvocationType: types.InvocationTypeRequestResponse, Payload: payload,
	})
	switch {
	case err != nil:
		return nil, err
	case out.FunctionError != nil:
		return nil, fmt.Errorf("the function %s ended in an error (%s)", functionARN, *out.FunctionError)
	case out.StatusCode != synchronous:
		return nil, fmt.Errorf("the function %s answered with status %d", functionARN, out.StatusCode)
	}
	return out.Payload, nil
}

// synchronous is the status of an invocation that was carried out (Lambda API
// Reference, Invoke).
const synchronous = 200
