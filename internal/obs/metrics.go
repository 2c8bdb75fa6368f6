package obs

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Registry collects a process's metrics. It is not Prometheus's global one, so
// that two programs in one test don't meet.
type Registry struct{ r *prometheus.Registry }

// NewRegistry returns a registry with the Go runtime's and the process's own metrics.
func NewRegistry() *Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &Registry{r}
}

// Handler serves the samples in Prometheus's text format.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.r, promhttp.HandlerOpts{})
}

// CounterFunc exposes a count that is kept elsewhere, such as a resolver's
// statistics. The name is patchbay_<name>; read must only grow. It panics on a
// name given twice.
func (r *Registry) CounterFunc(name, help string, read func() int64) {
	r.r.MustRegister(prometheus.NewCounterFunc(
		prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help},
		func() float64 { return float64(read()) }))
}

// GaugeFunc exposes a present value that is kept elsewhere.
func (r *Registry) GaugeFunc(name, help string, read func() float64) {
	r.r.MustRegister(prometheus.NewGaugeFunc(
		prometheus.GaugeOpts{Namespace: "patchbay", Name: name, Help: help}, read))
}

// Counter is a count with its label already resolved.
type Counter struct{ c prometheus.Counter }

// Inc adds one. A nil Counter counts nothing.
func (c *Counter) Inc() {
	if c != nil {
		c.c.Inc()
	}
}

// Counters makes one counter per value of a label, all present from the start
// so that a rate over a first event is right.
func (r *Registry) Counters(name, help, label string, values ...string) map[string]*Counter {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help}, []string{label})
	r.r.MustRegister(vec)
	out := make(map[string]*Counter, len(values))
	for _, v := range values {
		out[v] = &Counter{vec.WithLabelValues(v)}
	}
	return out
}

// Counter makes a counter without labels.
func (r *Registry) Counter(name, help string) *Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "patchbay", Name: name, Help: help})
	r.r.MustRegister(c)
	return &Counter{c}
}

// Requests counts HTTP requests of one listener, by route and status.
type Requests struct {
	total    *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewRequests makes the request metrics of a listener ("local", "admin").
func (r *Registry) NewRequests(listener string) *Requests {
	labels := prometheus.Labels{"listener": listener}
	q := &Requests{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "patchbay", Name: "http_requests_total", Help: "Requests by route and status.", ConstLabels: labels,
		}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "patchbay", Name: "http_request_seconds", Help: "Time from the request's last header to its answer.", ConstLabels: labels,
			Buckets: []float64{.00005, .0001, .0005, .001, .005, .01, .05, .1, .5, 1, 2.5},
		}, []string{"route"}),
	}
	r.r.MustRegister(q.total, q.duration)
	return q
}
