package devidp

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"
)

// token is the token endpoint (RFC 6749 section 3.2).
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		refuse(w, "invalid_request", "the form cannot be read")
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		s.exchange(w, r)
	case "refresh_token":
		s.refresh(w, r)
	case "client_credentials":
		s.backend(w, r)
	default:
		refuse(w, "unsupported_grant_type", "grant_type is authorization_code, refresh_token or client_credentials")
	}
}

// exchange gives tokens for a code.
func (s *Server) exchange(w http.ResponseWriter, r *http.Request) {
	g, ok := s.take(s.grants, r.PostForm.Get("code"))
	challenge := challengeOf(r.PostForm.Get("code_verifier"))
	switch {
	case !ok:
		refuse(w, "invalid_grant", "the code is not known, was used, or is out of date")
	case g.Redirect != r.PostForm.Get("redirect_uri"):
		refuse(w, "invalid_grant", "redirect_uri is not that of the authorization request")
	case subtle.ConstantTimeCompare([]byte(challenge), []byte(g.Challenge)) != 1:
		refuse(w, "invalid_grant", "code_verifier does not match the challenge")
	case !s.isClient(r, g.Client):
		refuse(w, "invalid_client", "the code was given to another client, or its assertion does not verify")
	default:
		s.answer(w, g, g.Audience)
	}
}

// refresh gives tokens for a refresh token, and another of these.
func (s *Server) refresh(w http.ResponseWriter, r *http.Request) {
	g, ok := s.take(s.refreshes, r.PostForm.Get("refresh_token"))
	if !ok {
		refuse(w, "invalid_grant", "the refresh token is not known, was used, or is out of date")
		return
	}
	if !s.isClient(r, g.Client) {
		refuse(w, "invalid_client", "the refresh token was given to another client")
		return
	}
	if asked := r.PostForm.Get("scope"); asked != "" {
		granted := strings.Fields(g.Scope)
		if slices.ContainsFunc(strings.Fields(asked), func(one string) bool { return !slices.Contains(granted, one) }) {
			refuse(w, "invalid_scope", "more than was granted")
			return
		}
		g.Scope = asked
	}
	s.answer(w, g, g.Audience)
}

// isClient reports whether a request comes from this client: one with keys shows
// an assertion, a public one its id.
func (s *Server) isClient(r *http.Request, id string) bool {
	if c, known := s.client(id); known && c.Keys != nil {
		shown, err := s.assertion(r)
		return err == nil && shown == id
	}
	return r.PostForm.Get("client_id") == id
}

// backend gives a token to a backend service (SMART Backend Services).
func (s *Server) backend(w http.ResponseWriter, r *http.Request) {
	id, err := s.assertion(r)
	if err != nil {
		refuse(w, "invalid_client", err.Error())
		return
	}
	scope := r.PostForm.Get("scope")
	for _, one := range strings.Fields(scope) {
		if !strings.HasPrefix(one, "system/") {
			refuse(w, "invalid_scope", "client_credentials are for system/ scopes")
			return
		}
	}
	aud := r.PostForm.Get("aud")
	if aud == "" {
		aud = r.PostForm.Get("resource") // RFC 8707
	}
	audience := []string{aud}
	if aud == "" { // backend services name none: the token is for every store that trusts this server
		if audience, err = s.Endpoints(r.Context()); err != nil {
			http.Error(w, "the data stores cannot be listed", http.StatusInternalServerError)
			return
		}
	}
	s.answer(w, grant{Client: id, Scope: scope}, audience...)
}

// assertionType is private_key_jwt's (RFC 7523 section 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// assertionAlgorithms are those of SMART App Launch 2.2 for client assertions.
var assertionAlgorithms = []string{"RS384", "ES384"}

// assertion verifies a client's assertion and gives the client's id. Its errors
// are shown to the client.
func (s *Server) assertion(r *http.Request) (id string, err error) {
	text := r.PostForm.Get("client_assertion")
	if r.PostForm.Get("client_assertion_type") != assertionType || text == "" {
		return "", errors.New("client_assertion with private_key_jwt is missing")
	}
	claimed, err := jwt.ParseInsecure([]byte(text))
	if err != nil {
		return "", errors.New("the assertion cannot be read")
	}
	id, _ = claimed.Issuer()
	c, known := s.client(id)
	if !known || c.Keys == nil {
		return "", errors.New("the client is not registered with keys")
	}
	message, err := jws.Parse([]byte(text))
	if err != nil || len(message.Signatures()) != 1 {
		return "", errors.New("the assertion cannot be read")
	}
	if alg, ok := message.Signatures()[0].ProtectedHeaders().Algorithm(); !ok || !slices.Contains(assertionAlgorithms, alg.String()) {
		return "", errors.New("the assertion's algorithm is not RS384 or ES384")
	}
	_, err = jwt.Parse([]byte(text), jwt.WithKeySet(c.Keys, jws.WithInferAlgorithmFromKey(true)), jwt.WithSubject(id), jwt.WithAudience(s.Issuer+"/token"),
		jwt.WithClock(jwt.ClockFunc(s.Clock)), jwt.WithRequiredClaim("exp"), jwt.WithRequiredClaim("jti"))
	if err != nil {
		return "", errors.New("the assertion does not verify: its signature, sub, aud (the token endpoint), exp or jti")
	}
	until, _ := claimed.Expiration()
	once, _ := claimed.JwtID()
	switch {
	case until.After(s.Clock().Add(assertionLife)):
		return "", errors.New("the assertion lives longer than 5 minutes")
	case !s.firstUse(id+" "+once, until):
		return "", errors.New("the assertion was used before")
	}
	return id, nil
}

// answer gives the tokens of a grant, for these endpoints of data stores.
func (s *Server) answer(w http.ResponseWriter, g grant, audience ...string) {
	now := s.Clock()
	once, err := s.secret()
	if err != nil {
		http.Error(w, "no randomness", http.StatusInternalServerError)
		return
	}
	scopes := strings.Fields(g.Scope)
	claims := map[string]any{
		"iss": s.Issuer, "aud": audience, "sub": subject(g), "client_id": g.Client, "scope": g.Scope, "jti": once,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(accessLife).Unix(),
	}
	body := map[string]any{"token_type": "Bearer", "expires_in": int(accessLife.Seconds()), "scope": g.Scope}
	if g.Patient != "" {
		claims["patient"], body["patient"], body["need_patient_banner"] = g.Patient, g.Patient, true
	}
	if g.User != "" {
		claims["fhirUser"] = g.User
	}
	if body["access_token"], err = s.sign(claims); err == nil && slices.Contains(scopes, "openid") {
		body["id_token"], err = s.sign(s.identity(g, claims))
	}
	if err == nil && (slices.Contains(scopes, "offline_access") || slices.Contains(scopes, "online_access")) {
		body["refresh_token"], err = s.give(s.refreshes, g, refreshLife)
	}
	if err != nil {
		http.Error(w, "the token cannot be signed", http.StatusInternalServerError)
		return
	}
	writeJSON(w, http.StatusOK, body)
}

func subject(g grant) string {
	switch {
	case g.User != "":
		return g.User
	case g.Redirect == "":
		return g.Client // a backend service
	}
	return "developer"
}

// identity are the claims of an id_token.
func (s *Server) identity(g grant, access map[string]any) map[string]any {
	claims := maps.Clone(access)
	for _, not := range []string{"scope", "client_id", "patient", "nbf"} {
		delete(claims, not)
	}
	claims["aud"] = g.Client
	if g.Nonce != "" {
		claims["nonce"] = g.Nonce
	}
	if g.User != "" {
		claims["fhirUser"] = strings.TrimSuffix(g.Audience, "/") + "/" + g.User
	}
	return claims
}

func (s *Server) sign(claims map[string]any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	h := jws.NewHeaders()
	if err := errors.Join(h.Set(jws.KeyIDKey, keyID), h.Set(jws.TypeKey, "JWT")); err != nil {
		return "", err
	}
	signed, err := jws.Sign(payload, jws.WithKey(jwa.ES256(), s.key, jws.WithProtectedHeaders(h)))
	return string(signed), err
}

// register takes a client (RFC 7591): redirect URIs for an app, a key set for a
// backend service or a confidential app.
func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	var asked struct {
		Redirects []string        `json:"redirect_uris"`
		Keys      json.RawMessage `json:"jwks"`
		Scope     string          `json:"scope"`
		Name      string          `json:"client_name"`
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		refuse(w, "invalid_client_metadata", "not the JSON of a registration")
		return
	}
	c := client{Redirects: asked.Redirects, Scope: asked.Scope}
	method := "none"
	if len(asked.Keys) > 0 {
		keys, err := jwk.Parse(asked.Keys)
		if err != nil || keys.Len() == 0 {
			refuse(w, "invalid_client_metadata", "jwks holds no key")
			return
		}
		c.Keys, method = keys, "private_key_jwt"
	}
	if len(c.Redirects) == 0 && c.Keys == nil {
		refuse(w, "invalid_redirect_uri", "give redirect_uris, or jwks for a backend service")
		return
	}
	id, err := s.addClient(c)
	if err != nil {
		http.Error(w, "no randomness", http.StatusInternalServerError)
		return
	}
	writeJSON(w, http.StatusCreated, map[string]any{
		"client_id": id, "client_id_issued_at": s.Clock().Unix(), "redirect_uris": asked.Redirects, "scope": asked.Scope,
		"client_name": asked.Name, "token_endpoint_auth_method": method,
	})
}
