package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tarn-fhir/tarn/internal/gateway"
	"github.com/tarn-fhir/tarn/internal/job"
	"github.com/tarn-fhir/tarn/internal/store/lsm"
)

// metrics are what GET /metrics shows: the door's, search parameters', jobs' and the
// engine's memory.
func metrics(p *parameters, queue *job.Queue, engine *lsm.Engine) *gateway.Metrics {
	m := gateway.NewMetrics()
	p.measure(m.Registry)
	m.Registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "tarn_datastores_faulty", Help: "Data stores that could not be opened when they were asked for last.",
	}, func() float64 { return float64(p.plane.Faults()) }))
	m.Registry.MustRegister(jobCounts{queue}, engineMemory{engine})
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

// engineMemory tells what open data stores hold in memory, the system store included.
type engineMemory struct{ engine *lsm.Engine }

var (
	openDesc   = prometheus.NewDesc("tarn_stores_open", "Stores that are open: data stores and the server's own.", nil, nil)
	memoryDesc = prometheus.NewDesc("tarn_engine_memory_bytes", "Memory of all open stores by part: memtables, block_cache, kept_columns, kept_rows and kept_hashes.", []string{"part"}, nil)
	roomDesc   = prometheus.NewDesc("tarn_engine_memory_room_bytes", "What all parts of tarn_engine_memory_bytes together may take, and memtables of it.", []string{"part"}, nil)
)

// Describe implements prometheus.Collector.
func (engineMemory) Describe(to chan<- *prometheus.Desc) {
	to <- openDesc
	to <- memoryDesc
	to <- roomDesc
}

// Collect implements prometheus.Collector.
func (c engineMemory) Collect(to chan<- prometheus.Metric) {
	m := c.engine.Memory()
	gauge := func(desc *prometheus.Desc, value int64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	gauge(openDesc, int64(m.Stores))
	gauge(memoryDesc, m.Memtables, "memtables")
	gauge(memoryDesc, m.BlockCache, "block_cache")
	gauge(memoryDesc, m.Columns, "kept_columns")
	gauge(memoryDesc, m.Rows, "kept_rows")
	gauge(memoryDesc, m.Hashes, "kept_hashes")
	gauge(roomDesc, m.Room, "all")
	gauge(roomDesc, m.MemtableRoom, "memtables")
}
