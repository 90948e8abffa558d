// Package devidp is an authorization server for development: a laptop's SMART
// apps get tokens for a laptop's data stores, with no other server. It is not
// for production: whoever reaches it is let in as whom they say they are.
//
//	<Issuer>/.well-known/openid-configuration   what it offers (also smart-configuration)
//	<Issuer>/jwks                               the keys that its tokens verify by
//	<Issuer>/authorize                          authorization code, PKCE S256 (RFC 7636)
//	<Issuer>/token                              authorization_code, refresh_token, client_credentials
//	<Issuer>/register                           dynamic registration (RFC 7591)
//	<Issuer>/launch                             an EHR: chooses a patient and launches an app
//
// Standalone launches choose the patient on a page of the server's own; backend
// services come with private_key_jwt. Everything is kept in bounded memory and
// forgotten when the server stops, the signing key too.
//
// Spec: http://hl7.org/fhir/smart-app-launch/STU2.2/app-launch.html,
// http://hl7.org/fhir/smart-app-launch/STU2.2/backend-services.html.
package devidp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

// How long what it gives out counts.
const (
	codeLife    = time.Minute
	launchLife  = 10 * time.Minute
	accessLife  = time.Hour
	refreshLife = 24 * time.Hour
	// assertionLife is the longest life of a client's assertion (SMART App Launch
	// 2.2, "Client Authentication: Asymmetric").
	assertionLife = 5 * time.Minute
)

// Bounds of what is kept and read.
const (
	maxKept     = 1024      // of codes, launches, refresh tokens, clients and assertions each
	maxBody     = 256 << 10 // bytes of a request's body
	maxPatients = 50        // on the picker page
)

// Patient is somebody who can be chosen.
type Patient struct {
	ID   string
	Name string // as the page shows it
}

// Options are what a Server is made of. Issuer, Patients and Endpoints are needed.
type Options struct {
	// Issuer is the server's URL, "http://127.0.0.1:8080/dev-idp", no slash at the
	// end.
	Issuer string
	// Patients lists some patients of the data store that an endpoint names, those
	// with this name where it is not empty; fault.NotFound for no data store.
	Patients func(ctx context.Context, endpoint, name string) ([]Patient, error)
	// Endpoints lists the data stores whose metadata names Issuer.
	Endpoints func(ctx context.Context) ([]string, error)
	Clock     func() time.Time // nil: time.Now
	Random    io.Reader        // nil: crypto/rand
}

// Server is the authorization server, an http.Handler below Issuer's path.
type Server struct {
	Options
	key    *ecdsa.PrivateKey
	jwks   []byte
	host   string // of Issuer
	routes *http.ServeMux

	mu         sync.Mutex
	grants     map[string]grant // by authorization code
	refreshes  map[string]grant // by refresh token
	launches   map[string]launch
	clients    map[string]client
	assertions map[string]time.Time // jti seen, until it expires
}

// grant is what a user allowed an app.
type grant struct {
	Client, Redirect, Challenge string
	Scope, Audience             string
	Patient, User, Nonce        string
	Until                       time.Time
}

// launch is an EHR's launch that waits for its app.
type launch struct {
	Patient, User string
	Until         time.Time
}

// client is a registered client.
type client struct {
	Redirects []string
	Keys      jwk.Set // nil: a public client
	Scope     string
	Made      time.Time
}

// keyID names the one signing key there is.
const keyID = "dev"

// New makes a server with a signing key of its own.
func New(o Options) (*Server, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Random == nil {
		o.Random = rand.Reader
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), o.Random)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Options: o, key: key, grants: map[string]grant{}, refreshes: map[string]grant{}, launches: map[string]launch{},
		clients: map[string]client{}, assertions: map[string]time.Time{},
	}
	if s.jwks, err = publicKeys(&key.PublicKey); err != nil {
		return nil, err
	}
	u, err := url.Parse(o.Issuer)
	if err != nil {
		return nil, err
	}
	s.host = u.Host
	s.routes = http.NewServeMux()
	for pattern, serve := range map[string]http.HandlerFunc{
		"GET /.well-known/openid-configuration": s.configuration, "GET /.well-known/smart-configuration": s.configuration,
		"GET /jwks": s.publicJWKS, "GET /authorize": s.authorize, "POST /authorize": s.authorize, "POST /token": s.token,
		"POST /register": s.register, "GET /launch": s.launchPage, "POST /launch": s.launchApp,
	} {
		method, path, _ := strings.Cut(pattern, " ")
		s.routes.HandleFunc(method+" "+u.Path+path, serve)
	}
	return s, nil
}

func publicKeys(public *ecdsa.PublicKey) ([]byte, error) {
	key, err := jwk.Import(public)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{jwk.KeyIDKey: keyID, jwk.AlgorithmKey: "ES256", jwk.KeyUsageKey: "sig"} {
		if err := key.Set(name, value); err != nil {
			return nil, err
		}
	}
	return json.Marshal(map[string]any{"keys": []jwk.Key{key}})
}

// ServeHTTP answers below the issuer's path, to any origin: apps run in browsers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Access-Control-Allow-Headers", "*, Authorization")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if why := s.foreign(r); why != "" {
		http.Error(w, why, http.StatusForbidden)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.routes.ServeHTTP(w, r)
}

// foreign says why a request is not for this server: under another name (a page
// whose name was rebound to this machine), or from another site's page. Only the
// token endpoint takes those: it lets in nobody without a code or a key.
func (s *Server) foreign(r *http.Request) string {
	if r.Host != s.host {
		return "this server's name is " + s.host
	}
	if strings.HasSuffix(r.URL.Path, "/token") {
		return ""
	}
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return "not from another site's page"
	}
	return ""
}

// Metadata is the discovery document to create a SMART data store with.
func (s *Server) Metadata() map[string]any {
	return map[string]any{
		"issuer": s.Issuer, "jwks_uri": s.Issuer + "/jwks", "authorization_endpoint": s.Issuer + "/authorize",
		"token_endpoint": s.Issuer + "/token", "registration_endpoint": s.Issuer + "/register",
		"token_endpoint_auth_methods_supported":            []string{"none", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": []string{"RS384", "ES384"},
		"grant_types_supported":                            []string{"authorization_code", "refresh_token", "client_credentials"},
		"response_types_supported":                         []string{"code"},
		"code_challenge_methods_supported":                 []string{"S256"},
		"scopes_supported": []string{"openid", "fhirUser", "launch", "launch/patient", "offline_access", "online_access",
			"patient/*.rs", "patient/*.cruds", "user/*.rs", "user/*.cruds", "system/*.rs", "system/*.cruds"},
		"capabilities": []string{"launch-ehr", "launch-standalone", "client-public", "client-confidential-asymmetric", "context-ehr-patient",
			"context-standalone-patient", "sso-openid-connect", "permission-offline", "permission-online", "permission-patient", "permission-user",
			"permission-v1", "permission-v2", "permission-v2.2", "authorize-post"},
	}
}

func (s *Server) configuration(w http.ResponseWriter, _ *http.Request) {
	answer := s.Metadata()
	answer["subject_types_supported"] = []string{"public"}
	answer["id_token_signing_alg_values_supported"] = []string{"ES256"}
	writeJSON(w, http.StatusOK, answer)
}

func (s *Server) publicJWKS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write(s.jwks)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "no JSON", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(raw)
}

// refuse answers with an OAuth error (RFC 6749 section 5.2).
func refuse(w http.ResponseWriter, code, detail string) {
	status := http.StatusBadRequest
	if code == "invalid_client" {
		status = http.StatusUnauthorized
	}
	writeJSON(w, status, map[string]string{"error": code, "error_description": detail})
}
