package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/job"
)

// metrics are what GET /metrics shows: the door's, search parameters' and jobs'.
func metrics(p *parameters, queue *job.Queue) *gateway.Metrics {
	m := gateway.NewMetrics()
	p.measure(m.Registry)
	m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tarn_datastores_faulty", Help: "Data stores that could not be opened when they were asked for last.",
	}, func() float64 { return float64(p.plane.Faults()) }))
	m.Registry.MustRegister(jobCounts{queue})
	return m
}

// jobCounts counts jobs by kind and state: waiting and running now, and how they
// ended since the server began.
type jobCounts struct{ queue *job.Queue }

var jobsDesc = prometheus.NewDesc("tarn_jobs", "Jobs by kind and state: waiting, running, and ended since the start by how.", []string{"kind", "state"}, nil)

// Describe implements prometheus.Collector.
func (jobCounts) Describe(to chan<- *prometheus.Desc) { to <- jobsDesc }

// Collect implements prometheus.Collector.
func (c jobCounts) Collect(to chan<- prometheus.Metric) {
	for _, s := range c.queue.Stats() {
		to <- prometheus.MustNewConstMetric(jobsDesc, prometheus.GaugeValue, float64(s.Count), s.Kind, s.State)
	}
}
