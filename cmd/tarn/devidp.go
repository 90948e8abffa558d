package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/tarn-fhir/tarn/internal/arn"
	"github.com/tarn-fhir/tarn/internal/audit"
	"github.com/tarn-fhir/tarn/internal/datastore"
	"github.com/tarn-fhir/tarn/internal/devidp"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/fhir"
	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/interaction"
	"github.com/tarn-fhir/tarn/internal/search"
)

// checkDevIDP refuses the development authorization server where others than
// this machine's could reach it: it lets everybody in.
func (c *serveCommand) checkDevIDP() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if ip := net.ParseIP(host); !c.DevIDP || err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("--dev-idp lets in whoever reaches it: it needs --listen on a loopback address, not %s", c.Listen)
}

// devIssuer is the development authorization server's URL.
func (c *serveCommand) devIssuer() string {
	return c.PublicURL + strings.TrimSuffix(gateway.DevIDPPrefix, "/")
}

// devServer is the development authorization server; nil unless asked for.
func (c *serveCommand) devServer(plane *datastore.Plane, shared *sessions, log *slog.Logger) (http.Handler, error) {
	if !c.DevIDP {
		return nil, nil
	}
	d := &devStores{plane: plane, sessions: shared, issuer: c.devIssuer(), prefix: c.PublicURL + "/datastore/", base: c.storeBase}
	s, err := devidp.New(devidp.Options{Issuer: c.devIssuer(), Patients: d.patients, Endpoints: d.endpoints})
	if err != nil {
		return nil, err
	}
	log.Warn("the development authorization server lets in whoever asks: not for production", "issuer", c.devIssuer())
	return s, nil
}

// devStores are the data stores as the development authorization server sees
// them.
type devStores struct {
	plane    *datastore.Plane
	sessions *sessions
	issuer   string
	prefix   string // before a data store's id in its endpoint
	base     func(id string) string
}

// pickable is how many patients the picker page is given.
const pickable = "50"

// patients lists patients of the data store with this endpoint, by name.
func (d *devStores) patients(ctx context.Context, endpoint, name string) ([]devidp.Patient, error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(endpoint, d.prefix), "/")
	if !arn.IsDatastoreID(id) {
		return nil, fault.New(fault.NotFound, "devStores.patients", "%q is not the endpoint of a data store here", endpoint)
	}
	lease, err := d.plane.Open(ctx, id)
	if err != nil {
		return nil, err
	}
	defer lease.Release()
	if !d.trusts(lease.Datastore) {
		return nil, fault.New(fault.NotFound, "devStores.patients", "the data store's metadata names another issuer than %s", d.issuer)
	}
	session, err := d.sessions.Session(lease, iam.Principal{}, func(audit.Target) {})
	if err != nil {
		return nil, err
	}
	pairs := []search.Pair{{Name: "_count", Value: pickable}, {Name: "_sort", Value: "family"}}
	if name != "" {
		pairs = append(pairs, search.Pair{Name: "name", Value: name})
	}
	body, err := session.Search(ctx, interaction.SearchRequest{Types: []string{"Patient"}, Pairs: pairs})
	if err != nil {
		return nil, err
	}
	return pickFrom(body)
}

// pickFrom reads the patients of a searchset.
func pickFrom(bundle []byte) ([]devidp.Patient, error) {
	doc, err := fhir.Parse(bundle)
	if err != nil {
		return nil, err
	}
	defer doc.Release()
	var found []devidp.Patient
	for e := range doc.Root().Get("entry").Items() {
		patient := e.Get("resource")
		var words []string
		for name := range patient.Get("name").Items() {
			for given := range name.Get("given").Items() {
				words = append(words, given.Text())
			}
			words = append(words, name.Get("family").Text())
			break
		}
		words = append(words, patient.Get("birthDate").Text())
		found = append(found, devidp.Patient{ID: patient.Get("id").Text(), Name: strings.Join(words, " ")})
	}
	return found, nil
}

// trusts reports whether a data store's metadata names this server.
func (d *devStores) trusts(s *datastore.Datastore) bool {
	var m struct {
		Issuer string `json:"issuer"`
	}
	return json.Unmarshal([]byte(s.Identity.Metadata), &m) == nil && m.Issuer == d.issuer
}

// devPage is how many data stores are listed at a time.
const devPage = 100

// endpoints lists the data stores that trust this server.
func (d *devStores) endpoints(ctx context.Context) ([]string, error) {
	var all []string
	page := datastore.ListPage{}
	for {
		var err error
		if page, err = d.plane.List(ctx, datastore.Filter{}, devPage, page.At, page.After); err != nil {
			return nil, err
		}
		for _, s := range page.Datastores {
			if s.Status.Serves() && d.trusts(s) {
				all = append(all, d.base(s.ID)+"/")
			}
		}
		if page.After == nil {
			return all, nil
		}
	}
}
