package adminapi

import (
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/tenant"
)

// rates keeps one tenant's automation from taking the control plane from the
// others: a token bucket per tenant. They are of a process; two control planes
// allow twice as much.
type rates struct {
	perSecond, burst float64
	mu               sync.Mutex
	buckets          map[tenant.ID]*bucket
	swept            time.Time
}

type bucket struct {
	left float64
	at   time.Time
}

// newRates returns nil, which limits nothing, where perSecond is zero.
func newRates(perSecond, burst int) *rates {
	if perSecond <= 0 {
		return nil
	}
	return &rates{perSecond: float64(perSecond), burst: float64(max(burst, perSecond)), buckets: map[tenant.ID]*bucket{}}
}

// take takes one request, and returns how long to wait where there is none left.
func (r *rates) take(id tenant.ID, now time.Time) time.Duration {
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(now)
	b := r.buckets[id]
	if b == nil {
		b = &bucket{left: r.burst, at: now}
		r.buckets[id] = b
	}
	if passed := now.Sub(b.at); passed > 0 {
		b.left, b.at = min(r.burst, b.left+passed.Seconds()*r.perSecond), now
	}
	if b.left < 1 {
		return time.Duration((1 - b.left) / r.perSecond * float64(time.Second))
	}
	b.left--
	return 0
}

// sweep forgets full buckets now and then, so that memory follows those who ask.
func (r *rates) sweep(now time.Time) {
	full := time.Duration(r.burst / r.perSecond * float64(time.Second))
	if now.Sub(r.swept) < max(full, time.Minute) {
		return
	}
	r.swept = now
	for id, b := range r.buckets {
		if now.Sub(b.at) > full {
			delete(r.buckets, id)
		}
	}
}
