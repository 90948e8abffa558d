package gateway

import (
	"github.com/tarn-fhir/tarn/internal/awsapi"
	"github.com/tarn-fhir/tarn/internal/awsquery"
	"github.com/tarn-fhir/tarn/internal/fault"
	"github.com/tarn-fhir/tarn/internal/iam"
	"github.com/tarn-fhir/tarn/internal/sigv4"
)

// serveQuery answers the token and identity services. A signature for another
// service is refused by whichever verifier of theirs hears it.
func (g *Gateway) serveQuery(x *exchange) error {
	service := sigv4.ScopedService(x.r)
	verifier := g.QueryVerifiers[service]
	if verifier == nil {
		service = awsquery.ServiceSTS
		verifier = g.QueryVerifiers[service]
	}
	if verifier == nil {
		return fault.New(fault.UnknownOperation, "gateway", "no such service")
	}
	x.service = service
	body, err := g.admitBy(verifier, x, awsquery.MaxBody)
	if err != nil {
		return err
	}
	if err := g.Limiter.Control(x.began); err != nil {
		return err
	}
	request, err := g.Query.Read(service, x.r, body)
	if request != nil {
		x.action = request.Name
	}
	if err != nil {
		return err
	}
	asked, err := g.question(x, request.Action, request.Resource, awsapi.Subject{Tags: request.Tags})
	if err != nil {
		return err
	}
	if request.Action != "" {
		if err := iam.Authorize(x.r.Context(), g.Policy, asked); err != nil {
			return err
		}
	}
	return request.Serve(x.r.Context(), x.w, awsquery.Caller{Principal: x.principal, Values: asked.Values}, x.id)
}
