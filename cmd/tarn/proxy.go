package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/sigv4"
)

// proxyCommand signs on this machine for tools that cannot.
type proxyCommand struct {
	connection
	Listen  string `help:"Loopback address to listen on." default:"127.0.0.1:8088" env:"TARN_PROXY_LISTEN"`
	Profile string `help:"Profile of the AWS configuration to sign with; else --access-key, else the credentials file of --data." env:"TARN_PROXY_PROFILE"`
}

// Run serves until the context ends.
func (c *proxyCommand) Run(ctx context.Context) error {
	target, err := url.Parse(c.Endpoint)
	if err != nil || target.Host == "" {
		return fmt.Errorf("--endpoint: %q is not a URL", c.Endpoint)
	}
	if !isLoopback(c.Listen) {
		return fmt.Errorf("--listen: %q is not a loopback address; whoever reaches the proxy acts with its key", c.Listen)
	}
	keys, err := c.keys(ctx)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return err
	}
	fmt.Printf("Tarn's signing proxy for %s answers at http://%s\n", c.Endpoint, listener.Addr())
	web := &http.Server{Handler: signing(target, c.connection, keys), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
	served := make(chan error, 1)
	go func() { served <- web.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), proxyDrain)
		defer cancel()
		return web.Shutdown(stopping)
	}
}

// proxyDrain is how long requests under way may take when the proxy stops.
const proxyDrain = 10 * time.Second

// keys are what requests are signed with.
func (c *proxyCommand) keys(ctx context.Context) (aws.CredentialsProvider, error) {
	if c.Profile != "" {
		settings, err := config.LoadDefaultConfig(ctx, config.WithSharedConfigProfile(c.Profile), config.WithRegion(c.Region))
		return settings.Credentials, err
	}
	key, err := c.credentials()
	return aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
		return aws.Credentials{AccessKeyID: key.AccessKeyID, SecretAccessKey: key.SecretAccessKey}, nil
	}), err
}

// signing forwards what it is sent, signed. Requests that a web page sends are
// refused: any page that a browser on this machine shows could act with the key.
func signing(target *url.URL, c connection, keys aws.CredentialsProvider) http.Handler {
	forward := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = target.Scheme, target.Host, target.Host
		},
		Transport: signer{c, keys},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch host, _, err := net.SplitHostPort(r.Host); {
		case err != nil || host != "localhost" && !net.ParseIP(host).IsLoopback():
			http.Error(w, "the proxy is asked for by its loopback address only", http.StatusForbidden)
		case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "" && r.Header.Get("Sec-Fetch-Site") != "none":
			http.Error(w, "the proxy does not sign for web pages", http.StatusForbidden)
		default:
			forward.ServeHTTP(w, r)
		}
	})
}

// signer signs and sends.
type signer struct {
	connection
	keys aws.CredentialsProvider
}

// RoundTrip reads the body, which the signature covers.
func (s signer) RoundTrip(r *http.Request) (*http.Response, error) {
	if sigv4.Presented(r) {
		return http.DefaultTransport.RoundTrip(r) // signed already
	}
	var body []byte
	if r.Body != nil {
		read, err := io.ReadAll(io.LimitReader(r.Body, gateway.MaxDataBody+1))
		if err = errors.Join(err, r.Body.Close()); err != nil {
			return nil, err
		}
		if len(read) > gateway.MaxDataBody {
			return nil, fmt.Errorf("the body is larger than %d bytes", gateway.MaxDataBody)
		}
		body = read
	}
	out := r.Clone(r.Context())
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	for _, name := range []string{"Authorization", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		out.Header.Del(name)
	}
	key, err := s.keys.Retrieve(r.Context())
	if err != nil {
		return nil, fmt.Errorf("no credentials to sign with: %w", err)
	}
	if err := s.signWith(r.Context(), out, body, "healthlake", key); err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(out)
}
