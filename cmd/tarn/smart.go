package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"github.com/tarn-fhir/tarn/internal/smart"
	"github.com/tarn-fhir/tarn/internal/smart/awslambda"
)

// smartFlags say whom this server asks about the bearer tokens of SMART data
// stores.
type smartFlags struct {
	Issuers       []string          `help:"Origins of identity providers that data stores' metadata may name: https://idp.example.org. Others are never asked." placeholder:"ORIGIN" env:"TARN_SMART_ISSUERS"`
	Introspectors map[string]string `help:"This server's credentials at introspection endpoints: ORIGIN=CLIENT:SECRET, several with ; between." mapsep:";" placeholder:"ORIGIN=CLIENT:SECRET" env:"TARN_SMART_INTROSPECTORS"`
	AnyAudience   []string          `help:"Origins whose introspection answers may name no audience: only where all their tokens are for one data store." placeholder:"ORIGIN" env:"TARN_SMART_ANY_AUDIENCE"`
	LambdaURL     map[string]string `name:"lambda-url" help:"Token Lambdas that answer at a URL: ARN=URL, several with ; between." mapsep:";" placeholder:"ARN=URL" env:"TARN_SMART_LAMBDA_URL"`
	Lambda        bool              `help:"Call token Lambdas in AWS Lambda, by the SDK's standard settings (AWS_ENDPOINT_URL_LAMBDA names a local runtime)." env:"TARN_SMART_LAMBDA"`
	LambdaCache   time.Duration     `help:"How long a token Lambda's answer is kept, per data store, token and operation; 0: each request asks, as in HealthLake." default:"0" env:"TARN_SMART_LAMBDA_CACHE"`
}

func (f *smartFlags) check() error {
	for name, address := range f.LambdaURL {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("--smart-lambda-url: %s: %q is not an http or https URL", name, address)
		}
	}
	if f.LambdaCache < 0 {
		return fmt.Errorf("--smart-lambda-cache: %s is negative", f.LambdaCache)
	}
	_, err := f.introspectors()
	return err
}

// introspectors are the credentials by origin.
func (f *smartFlags) introspectors() (map[string]smart.Introspector, error) {
	all := map[string]smart.Introspector{}
	for origin, pair := range f.Introspectors {
		client, secret, ok := strings.Cut(pair, ":")
		if !ok || client == "" {
			return nil, fmt.Errorf("--smart-introspectors: what stands for %s is not CLIENT:SECRET", origin)
		}
		all[origin] = smart.Introspector{ClientID: client, Secret: secret}
	}
	for _, origin := range f.AnyAudience {
		one := all[origin]
		one.AnyAudience = true
		all[origin] = one
	}
	return all, nil
}

// authority is who judges bearer tokens.
func (c *serveCommand) authority(ctx context.Context) (*smart.Authority, error) {
	introspectors, err := c.SMART.introspectors()
	if err != nil {
		return nil, err
	}
	invoker, err := c.lambdas(ctx)
	if err != nil {
		return nil, err
	}
	issuers := c.SMART.Issuers
	if c.DevIDP {
		origin, err := url.Parse(c.PublicURL)
		if err != nil {
			return nil, err
		}
		issuers = append([]string{origin.Scheme + "://" + origin.Host}, issuers...)
	}
	return smart.New(smart.Options{
		Allow: issuers, Introspectors: introspectors, Invoker: invoker, LambdaCache: c.SMART.LambdaCache, Clock: time.Now,
	})
}

// lambdas calls token Lambdas at their URLs, and in AWS Lambda where asked; nil
// where there is neither.
func (c *serveCommand) lambdas(ctx context.Context) (smart.Invoker, error) {
	if !c.SMART.Lambda && len(c.SMART.LambdaURL) == 0 {
		return nil, nil
	}
	mapped := &smart.HTTPInvoker{URLs: c.SMART.LambdaURL}
	if !c.SMART.Lambda {
		return mapped, nil
	}
	settings, err := config.LoadDefaultConfig(ctx, config.WithRegion(c.Region))
	if err != nil {
		return nil, err
	}
	mapped.Else = awslambda.New(lambda.NewFromConfig(settings))
	return mapped, nil
}
