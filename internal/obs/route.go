package obs

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Route is the metrics of one route.
type Route struct {
	total    *prometheus.CounterVec
	route    string
	byStatus [600]atomic.Pointer[Counter]
	duration prometheus.Observer
}

// Route resolves a route's metrics. The route is a pattern, never a path. A nil
// Requests gives a nil Route, which counts nothing.
func (q *Requests) Route(route string) *Route {
	if q == nil {
		return nil
	}
	return &Route{total: q.total, route: route, duration: q.duration.WithLabelValues(route)}
}

// Done counts one request. The first of a status resolves its counter; later
// ones allocate nothing. (Resolving all sixty statuses ahead would publish sixty
// empty series a route.)
func (r *Route) Done(status int, took time.Duration) {
	if r == nil || status < 100 || status >= len(r.byStatus) {
		return
	}
	c := r.byStatus[status].Load()
	if c == nil {
		c = &Counter{r.total.WithLabelValues(r.route, strconv.Itoa(status))}
		r.byStatus[status].Store(c)
	}
	c.Inc()
	r.duration.Observe(took.Seconds())
}
