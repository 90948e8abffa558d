package devidp

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tarn-fhir/tarn/internal/fault"
)

// authorization is a request to the authorization endpoint.
type authorization struct {
	grant
	State, Launch string
}

func readAuthorization(form url.Values) authorization {
	return authorization{
		grant: grant{
			Client: form.Get("client_id"), Redirect: form.Get("redirect_uri"), Challenge: form.Get("code_challenge"), Scope: form.Get("scope"),
			Audience: form.Get("aud"), Patient: form.Get("patient"), User: form.Get("user"), Nonce: form.Get("nonce"),
		},
		State: form.Get("state"), Launch: form.Get("launch"),
	}
}

// authorize lets a user choose whom an app is about, and gives the app its code.
// What is wrong before the redirect URI is known to be the app's is told to the
// user, what is wrong later to the app (RFC 6749 section 4.1.2.1).
func (s *Server) authorize(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	a := readAuthorization(r.Form)
	if why := s.wrongRedirect(a); why != "" {
		http.Error(w, why, http.StatusBadRequest)
		return
	}
	if code, why := s.wrong(a, r.Form); code != "" {
		back(w, r, a, url.Values{"error": {code}, "error_description": {why}})
		return
	}
	if !s.inContext(&a) {
		back(w, r, a, url.Values{"error": {"invalid_request"}, "error_description": {"the launch is not known"}})
		return
	}
	decided := r.Method == http.MethodPost && r.PostForm.Get("decision") != ""
	switch {
	case decided && r.PostForm.Get("decision") != "allow":
		back(w, r, a, url.Values{"error": {"access_denied"}})
	case decided || a.Launch != "":
		code, err := s.give(s.grants, a.grant, codeLife)
		if err != nil {
			http.Error(w, "no randomness", http.StatusInternalServerError)
			return
		}
		back(w, r, a, url.Values{"code": {code}})
	default:
		s.picker(w, r, a)
	}
}

// wrongRedirect says why an app may not be answered at its redirect URI: one
// that is registered must be among those registered; others must be on this
// machine.
func (s *Server) wrongRedirect(a authorization) string {
	u, err := url.Parse(a.Redirect)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Fragment != "" {
		return "redirect_uri is not an http or https URL"
	}
	if c, known := s.client(a.Client); known {
		if !slices.Contains(c.Redirects, a.Redirect) {
			return "redirect_uri is not registered for this client"
		}
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return "redirect_uri is not on this machine: register the client, or use 127.0.0.1"
	}
	return ""
}

// wrong is the OAuth error of a request, and what is wrong.
func (s *Server) wrong(a authorization, form url.Values) (code, why string) {
	switch {
	case a.Client == "":
		return "invalid_request", "client_id is missing"
	case form.Get("response_type") != "code":
		return "unsupported_response_type", "response_type must be code"
	case a.Challenge == "" || form.Get("code_challenge_method") != "S256":
		return "invalid_request", "PKCE with S256 is asked for (code_challenge, code_challenge_method)"
	case a.Audience == "":
		return "invalid_request", "aud, the data store's endpoint, is missing"
	case strings.Contains(a.Scope, "system/"):
		return "invalid_scope", "system/ scopes are for client_credentials"
	}
	return "", ""
}

// inContext takes the patient of an EHR's launch; false: there is no such launch.
func (s *Server) inContext(a *authorization) bool {
	if a.Launch == "" {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.launches[a.Launch]
	delete(s.launches, a.Launch)
	a.Patient, a.User = l.Patient, l.User
	return ok && s.Clock().Before(l.Until)
}

// back sends the browser to the app.
func back(w http.ResponseWriter, r *http.Request, a authorization, answer url.Values) {
	if a.State != "" {
		answer.Set("state", a.State)
	}
	join := "?"
	if strings.Contains(a.Redirect, "?") {
		join = "&"
	}
	http.Redirect(w, r, a.Redirect+join+answer.Encode(), http.StatusFound)
}

// wantsPatient reports whether a scope needs a patient to be chosen.
func wantsPatient(scope string) bool {
	return slices.ContainsFunc(strings.Fields(scope), func(s string) bool {
		return s == "launch/patient" || strings.HasPrefix(s, "patient/")
	})
}

// choice is what the picker page shows.
type choice struct {
	Title    string
	Action   string
	Hidden   map[string]string
	Choose   bool // a patient is to be chosen
	Patients []Patient
	Scopes   []string
	Name     string
	App      bool // the address of an app is asked for
}

func (s *Server) picker(w http.ResponseWriter, r *http.Request, a authorization) {
	c := choice{Title: "Let " + a.Client + " in?", Action: s.Issuer + "/authorize", Choose: wantsPatient(a.Scope), Scopes: strings.Fields(a.Scope), Name: r.Form.Get("name")}
	c.Hidden = map[string]string{}
	for _, name := range []string{"client_id", "redirect_uri", "code_challenge", "code_challenge_method", "scope", "aud", "nonce", "state", "response_type"} {
		c.Hidden[name] = r.Form.Get(name)
	}
	if !s.list(w, r, &c, a.Audience) {
		return
	}
	show(w, c)
}

// list fills in the patients of an endpoint, or answers why not.
func (s *Server) list(w http.ResponseWriter, r *http.Request, c *choice, endpoint string) bool {
	if !c.Choose {
		return true
	}
	found, err := s.Patients(r.Context(), endpoint, c.Name)
	if err != nil {
		status := http.StatusInternalServerError
		if fault.Is(err, fault.NotFound) {
			status = http.StatusBadRequest
		}
		http.Error(w, "no patients: "+fault.From(err).Message(), status)
		return false
	}
	c.Patients = found[:min(len(found), maxPatients)]
	return true
}

func show(w http.ResponseWriter, c choice) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	if err := page.Execute(w, c); err != nil {
		return // the client is gone
	}
}

var page = template.Must(template.New("page").Parse(`<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{{.Title}}</title>
<style>body{font:16px/1.5 sans-serif;max-width:40em;margin:2em auto;padding:0 1em}fieldset{margin:1em 0}label{display:block}.note{background:#fed;padding:.5em}</style>
<h1>{{.Title}}</h1>
<p class="note">This authorization server is for development. It asks for no password: do not use it with real patients.</p>
<form method="post" action="{{.Action}}">
{{range $name, $value := .Hidden}}<input type="hidden" name="{{$name}}" value="{{$value}}">
{{end}}{{if .App}}<label>App's launch URL <input name="app" size="50" required></label>
{{end}}{{if .Scopes}}<p>It asks for:</p><ul>{{range .Scopes}}<li><code>{{.}}</code></li>{{end}}</ul>
{{end}}{{if .Choose}}<fieldset><legend>Patient</legend>
{{range $i, $p := .Patients}}<label><input type="radio" name="patient" value="{{$p.ID}}" required> {{$p.Name}} <small>{{$p.ID}}</small></label>
{{else}}<p>No patient is there.</p>{{end}}</fieldset>
{{end}}<label>User (fhirUser) <input name="user" placeholder="Practitioner/id"></label>
<p><button name="decision" value="allow">Allow</button> <button name="decision" value="deny" formnovalidate>Deny</button></p>
</form></html>
`))

// launchPage is an EHR's page: it chooses a patient of a data store (iss) and an
// app.
func (s *Server) launchPage(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.Form.Get("iss") == "" {
		http.Error(w, "iss, the data store's endpoint, is missing", http.StatusBadRequest)
		return
	}
	c := choice{
		Title: "Launch an app", Action: s.Issuer + "/launch", Choose: true, App: r.Form.Get("app") == "", Name: r.Form.Get("name"),
		Hidden: map[string]string{"iss": r.Form.Get("iss")},
	}
	if !c.App {
		c.Hidden["app"] = r.Form.Get("app")
	}
	if s.list(w, r, &c, r.Form.Get("iss")) {
		show(w, c)
	}
}

// launchApp sends the browser to the app's launch URL, with a launch that stands
// for the patient chosen.
func (s *Server) launchApp(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, "the form cannot be read", http.StatusBadRequest)
		return
	}
	app, err := url.Parse(r.PostForm.Get("app"))
	if err != nil || app.Scheme != "http" && app.Scheme != "https" || app.Host == "" {
		http.Error(w, "app is not an http or https URL", http.StatusBadRequest)
		return
	}
	if r.PostForm.Get("decision") != "allow" {
		http.Error(w, "not launched", http.StatusOK)
		return
	}
	key, err := s.secret()
	if err != nil {
		http.Error(w, "no randomness", http.StatusInternalServerError)
		return
	}
	now := s.Clock()
	s.mu.Lock()
	keep(s.launches, key, launch{r.PostForm.Get("patient"), r.PostForm.Get("user"), now.Add(launchLife)}, func(l launch) time.Time { return l.Until }, now)
	s.mu.Unlock()
	query := app.Query()
	query.Set("iss", r.PostForm.Get("iss"))
	query.Set("launch", key)
	app.RawQuery = query.Encode()
	http.Redirect(w, r, app.String(), http.StatusFound)
}

// challengeOf is the S256 challenge of a verifier (RFC 7636 section 4.6).
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
