package gateway

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics are the server's own, in Prometheus's form.
type Metrics struct {
	http.Handler
	Registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics makes the registry with what every server reports.
func NewMetrics() *Metrics {
	reg := prometheus.NewRegistry()
	m := &Metrics{
		Registry: reg,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "tarn_requests_total", Help: "Requests answered, by plane, IAM action, HTTP status and, for the CMS paths, URI type.",
		}, []string{"plane", "action", "status", "uri_type"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "tarn_request_seconds", Help: "Time from a request's arrival to its answer, in seconds.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"plane", "action"}),
	}
	reg.MustRegister(m.requests, m.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.Handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{})
	return m
}

func (m *Metrics) observe(x *exchange, status int, took time.Duration) {
	m.requests.WithLabelValues(x.plane, x.action, strconv.Itoa(status), x.uriType).Inc()
	m.seconds.WithLabelValues(x.plane, x.action).Observe(took.Seconds())
}
