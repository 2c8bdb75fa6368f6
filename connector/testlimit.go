package connector

import (
	"math"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// testLimits keeps one tenant from making this process an attacker of somebody's
// server, or from taking the tests of all others: so many a minute, so many at a
// time, and one per connector. They are of a process; two control planes allow
// twice as much.
type testLimits struct {
	perMinute, inFlight int
	now                 func() time.Time

	mu      sync.Mutex
	tenants map[tenant.ID]*testBudget
	running map[ID]bool
}

// testBudget is a token bucket of a minute's size.
type testBudget struct {
	left    float64
	at      time.Time
	running int
}

func newTestLimits(perMinute, inFlight int, now func() time.Time) *testLimits {
	return &testLimits{
		perMinute: perMinute, inFlight: inFlight, now: now,
		tenants: map[tenant.ID]*testBudget{}, running: map[ID]bool{},
	}
}

// take admits one test until release is called.
// Errors: fault.RateLimited with the time after which to come back.
func (l *testLimits) take(t tenant.ID, id ID) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running[id] {
		return nil, fault.New(fault.RateLimited, "the connector is being tested already").WithRetryAfter(5 * time.Second)
	}
	now := l.now()
	b := l.tenants[t]
	if b == nil {
		l.forget(now)
		b = &testBudget{left: float64(l.perMinute), at: now}
		l.tenants[t] = b
	}
	l.refill(b, now)
	if b.running >= l.inFlight {
		return nil, fault.New(fault.RateLimited, "too many connection tests of this tenant are running").WithRetryAfter(2 * time.Second)
	}
	if b.left < 1 {
		wait := time.Duration((1 - b.left) / float64(l.perMinute) * float64(time.Minute))
		return nil, fault.New(fault.RateLimited, "too many connection tests of this tenant in a minute").
			WithRetryAfter(max(time.Second, wait.Round(time.Second)))
	}
	b.left--
	b.running++
	if !id.IsZero() {
		l.running[id] = true
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		b.running--
		delete(l.running, id)
	}, nil
}

func (l *testLimits) refill(b *testBudget, now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.left = math.Min(float64(l.perMinute), b.left+d.Minutes()*float64(l.perMinute))
	}
	b.at = now
}

// forget drops the budgets that are whole again, which are as good as none: what
// is kept is the tenants of the last minute.
func (l *testLimits) forget(now time.Time) {
	if len(l.tenants) < 1024 {
		return
	}
	for t, b := range l.tenants {
		if l.refill(b, now); b.running == 0 && b.left >= float64(l.perMinute) {
			delete(l.tenants, t)
		}
	}
}
