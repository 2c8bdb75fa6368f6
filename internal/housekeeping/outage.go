package housekeeping

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/tenant"
)

// outages remembers, by target, what each tenant's last test within a window met.
type outages struct {
	window time.Duration
	log    *slog.Logger
	found  atomic.Int64

	mu      sync.Mutex
	targets map[string]*targetTests
}

type targetTests struct {
	kind  string
	out   bool
	tests map[tenant.ID]lastMet
}

type lastMet struct {
	at     time.Time
	vendor bool // a fault of the vendor's
}

// maxTargets bounds the memory; what is above is not watched, which costs nothing
// but that its outage is not called one.
const maxTargets = 10_000

// leastTenants is how many have to be asked: of two tenants both may have the same
// broken line.
const leastTenants = 3

func newOutages(window time.Duration, log *slog.Logger) *outages {
	return &outages{window: window, log: log, targets: map[string]*targetTests{}}
}

// note remembers a test, and says once when an outage begins or ends with it.
func (o *outages) note(kind, target string, t tenant.ID, vendor bool, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.targets[target]
	if x == nil {
		if len(o.targets) >= maxTargets {
			o.forget(now)
		}
		if len(o.targets) >= maxTargets {
			return
		}
		x = &targetTests{kind: kind, tests: map[tenant.ID]lastMet{}}
		o.targets[target] = x
	}
	x.tests[t] = lastMet{now, vendor}
	o.judge(x, now)
}

// out tells whether a target is out.
func (o *outages) out(target string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	x := o.targets[target]
	if x == nil {
		return false
	}
	o.judge(x, now)
	return x.out
}

// now is how many targets are out.
func (o *outages) now(now time.Time) (n int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.forget(now)
	for _, x := range o.targets {
		if x.out {
			n++
		}
	}
	return n
}

// forget drops what nobody has tested for a window.
func (o *outages) forget(now time.Time) {
	for target, x := range o.targets {
		if o.judge(x, now); len(x.tests) == 0 {
			delete(o.targets, target)
		}
	}
}

// judge decides anew whether a target is out, by the tests within the window.
func (o *outages) judge(x *targetTests, now time.Time) {
	vendor := 0
	for t, m := range x.tests {
		if now.Sub(m.at) > o.window {
			delete(x.tests, t)
		} else if m.vendor {
			vendor++
		}
	}
	out := len(x.tests) >= leastTenants && 2*vendor > len(x.tests)
	if out == x.out {
		return
	}
	x.out = out
	// The target stays out of the line: its host is a tenant's own param.
	if out {
		o.found.Add(1)
		o.log.Warn("a vendor is out: most tenants' tests meet faults on its side; connectors keep their state", "kind", x.kind)
	} else {
		o.log.Info("a vendor's outage is over, or nobody has tested since", "kind", x.kind)
	}
}
