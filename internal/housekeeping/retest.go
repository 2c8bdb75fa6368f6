package housekeeping

import (
	"cmp"
	"context"
	"encoding/binary"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Tester is what a Retester needs of connector.Service.
type Tester interface {
	// Retestable tells whether a test that nobody asked for makes sense.
	Retestable(c *connector.Connector) bool
	// Target names whom a connector talks to.
	Target(c *connector.Connector) string
	// RunTest tests a connector without recording the result.
	RunTest(ctx context.Context, sc connector.Scope, id connector.ID, o connector.TestOptions) (connector.TestResult, error)
	// RecordResult records a result; keep leaves the state.
	RecordResult(ctx context.Context, r connector.TestResult, keep bool) (connector.TestResult, error)
}

// RetestOptions are a Retester's parts. Store and Service are needed.
type RetestOptions struct {
	Store   connector.Reader
	Service Tester
	Log     *slog.Logger // nil discards
	// Period is how often an active connector is tested; default 6 h.
	Period time.Duration
	// Confirm is how long after a tenant's own fault was found a second test decides;
	// default 1 min.
	Confirm time.Duration
	// Window is how far back an outage of a vendor is looked for; default 15 min.
	Window time.Duration
	// Parallel is how many tests run at a time; default 4.
	Parallel int
}

// Retester tests active connectors now and then, at the level without side
// effects, so that a password that was changed at the other side shows before
// somebody's mail is lost.
//
// Each connector has its moment in the period, by a hash of its id, so that
// neither a start nor a deploy tests all at once. A replica that finds a test
// since that moment leaves it: two testing the same is harmless and rare.
//
// An outage of a vendor is told from a tenant's fault. A finding that is not the
// tenant's own never changes a state. One that is does so only when a second test
// a minute later finds it again, and not while the connector's target is out:
// more than half of at least three tenants that were tested against it lately met
// a fault of the vendor's.
type Retester struct {
	o       RetestOptions
	slots   chan struct{}
	pending sync.WaitGroup
	busy    inHand
	outages *outages

	// Counters for metrics.
	Tests    atomic.Int64
	Failed   atomic.Int64 // tests that found something
	Errors   atomic.Int64 // connectors that turned to the state error
	Failures atomic.Int64 // tenants that could not be looked at
}

// maxConfirming bounds how many connectors wait for their second test. What is
// above waits for its next moment.
const maxConfirming = 1000

// NewRetester returns a retester. Run does the work.
func NewRetester(o RetestOptions) *Retester {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&o.Period, 6*time.Hour)
	def(&o.Confirm, time.Minute)
	def(&o.Window, 15*time.Minute)
	if o.Parallel <= 0 {
		o.Parallel = 4
	}
	r := &Retester{o: o, slots: make(chan struct{}, o.Parallel), outages: newOutages(o.Window, o.Log)}
	r.busy.ids = map[connector.ID]bool{}
	return r
}

// Outages counts the outages of vendors that were found, OutagesNow those that
// last.
func (r *Retester) Outages() int64 { return r.outages.found.Load() }

// OutagesNow is how many targets are out.
func (r *Retester) OutagesNow() int64 { return r.outages.now(time.Now()) }

// Run tests until ctx ends, then waits for the tests under way.
func (r *Retester) Run(ctx context.Context) error {
	defer r.pending.Wait()
	// Replicas that start together would come to every tenant together.
	if err := sleep(ctx, rand.N(r.o.Period/visits)); err != nil {
		return err
	}
	for {
		if err := r.round(ctx); err != nil {
			return err
		}
	}
}

// visits is how often in a period each tenant is looked at: a connector's test is
// late by a twelfth of the period at most.
const visits = 12

// round looks at every tenant once, spread over its time by a hash of the id: a
// control plane of a hundred thousand tenants asks a few a second instead of all
// at once. It returns ctx's error when that ends.
func (r *Retester) round(ctx context.Context) error {
	begun, length := time.Now(), r.o.Period/visits
	tenants, err := r.o.Store.Tenants(ctx, connector.TenantFilter{})
	if err != nil {
		r.Failures.Add(1)
		r.o.Log.Warn("the tenants whose connectors are to be tested could not be listed", "error", err)
	}
	slices.SortFunc(tenants, func(a, b connector.Tenant) int {
		return cmp.Compare(phase(a.ID.String()), phase(b.ID.String()))
	})
	for _, t := range tenants {
		if err := sleep(ctx, time.Until(begun.Add(share(phase(t.ID.String()), length)))); err != nil {
			return err
		}
		if t.Status != connector.StatusReady {
			continue
		}
		if err := r.tenant(ctx, t.ID); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			r.Failures.Add(1)
			r.o.Log.Warn("a tenant's connectors could not be looked at", "tenant", t.ID.String(), "error", err)
		}
	}
	return sleep(ctx, time.Until(begun.Add(length)))
}

// page is how many connectors are read at a time.
const page = 200

// tenant begins the tests that are due.
func (r *Retester) tenant(ctx context.Context, t tenant.ID) error {
	for f := (connector.Filter{Limit: page}); ; {
		list, err := r.o.Store.Tenant(t).List(ctx, f)
		if err != nil {
			return err
		}
		for i := range list {
			if !r.o.Service.Retestable(&list[i]) || !r.due(&list[i], time.Now()) || !r.busy.add(list[i].ID, maxConfirming) {
				continue
			}
			select {
			case r.slots <- struct{}{}:
			case <-ctx.Done():
				r.busy.remove(list[i].ID)
				return ctx.Err()
			}
			r.pending.Go(func() {
				defer r.busy.remove(list[i].ID)
				r.test(ctx, t, list[i])
			})
		}
		if len(list) < page {
			return nil
		}
		f.After = list[len(list)-1].ID
	}
}

// due tells whether the connector's last moment has passed without a test, or a
// change, since. Moments are its phase plus whole periods since 1970.
func (r *Retester) due(c *connector.Connector, now time.Time) bool {
	last := c.UpdatedAt
	if t, err := connector.ParseTest(c.LastTest); err == nil && t != nil && t.TestedAt.After(last) {
		last = t.TestedAt
	}
	offset := share(phase(c.ID.String()), r.o.Period)
	since := time.Duration(now.UnixNano()) - offset
	moment := now.Add(-(since % r.o.Period))
	return last.Before(moment)
}

// phase is where an id stands among all others, evenly spread.
func phase(id string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(id)) // a hash takes everything
	// The top bits of FNV hardly differ between ids that differ at their end.
	x := binary.BigEndian.Uint64(h.Sum(nil))
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

// share is the part of d that a phase stands for.
func share(phase uint64, d time.Duration) time.Duration {
	return time.Duration(float64(phase>>11) / (1 << 53) * float64(d))
}

// test tests one connector and records what it found. It holds a slot on entry and
// none at its end; it waits for the second test without one.
func (r *Retester) test(ctx context.Context, t tenant.ID, c connector.Connector) {
	result, ok := r.run(ctx, t, &c)
	<-r.slots
	if !ok {
		return
	}
	if r.own(&c, result) && result.State != connector.StateError {
		if sleep(ctx, r.o.Confirm) != nil {
			return
		}
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		result, ok = r.run(ctx, t, &c)
		<-r.slots
		if !ok {
			return
		}
	}
	if !result.OK {
		r.Failed.Add(1)
	}
	before := result.State
	recorded, err := r.o.Service.RecordResult(ctx, result, !result.OK && !r.own(&c, result))
	switch {
	case err != nil:
		r.o.Log.Warn("a test could not be recorded", "tenant", t.String(), "connector", c.ID.String(), "error", err)
	case recorded.State == connector.StateError && before != connector.StateError:
		r.Errors.Add(1)
		r.o.Log.Warn("a connector stopped to work by a fault of its config", "tenant", t.String(),
			"connector", c.ID.String(), "kind", string(c.Kind), "code", string(result.Code()))
	}
}

// own tells whether a result is the tenant's own fault: nothing is that while the
// target is out, when vendors answer all sorts of things.
func (r *Retester) own(c *connector.Connector, result connector.TestResult) bool {
	return !result.OK && result.Fault() == providers.FaultConfig && !r.outages.out(r.o.Service.Target(c), time.Now())
}

// run runs one test and notes what it says about the vendor.
func (r *Retester) run(ctx context.Context, t tenant.ID, c *connector.Connector) (connector.TestResult, bool) {
	// Another replica, or its admin, may have tested it meanwhile.
	now, err := connector.Find(ctx, r.o.Store.Tenant(t), c.ID)
	if err != nil || !r.o.Service.Retestable(&now) || newer(now.LastTest, c.LastTest) {
		return connector.TestResult{}, false
	}
	result, err := r.o.Service.RunTest(ctx, connector.System(t), c.ID, connector.TestOptions{Level: providers.LevelReach})
	switch {
	case fault.CodeOf(err) == fault.RateLimited:
		return result, false // its admin's tests come first
	case err != nil:
		if ctx.Err() == nil {
			r.o.Log.Warn("a connector could not be tested", "tenant", t.String(), "connector", c.ID.String(), "error", err)
		}
		return result, false
	}
	r.Tests.Add(1)
	r.outages.note(string(c.Kind), r.o.Service.Target(c), t, result.Fault() == providers.FaultVendor, time.Now())
	return result, true
}

// newer tells whether a report is of a later test than another.
func newer(report, than []byte) bool {
	a, err := connector.ParseTest(report)
	if err != nil || a == nil {
		return false
	}
	b, err := connector.ParseTest(than)
	return err != nil || b == nil || a.TestedAt.After(b.TestedAt)
}

// inHand is the connectors that are being tested here, or wait for a second test.
type inHand struct {
	mu  sync.Mutex
	ids map[connector.ID]bool
}

func (h *inHand) add(id connector.ID, most int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ids[id] || len(h.ids) >= most {
		return false
	}
	h.ids[id] = true
	return true
}

func (h *inHand) remove(id connector.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.ids, id)
}
