package housekeeping_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/housekeeping"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// probe is a kind whose findings are the test's to say, by host; how often each
// host was tested is counted.
type probe struct {
	providers.Base
	schema *providers.Schema
	mu     sync.Mutex
	finds  map[string]providers.TestCode
	once   map[string]bool // what it finds is gone with the next test
	tested map[string]int
}

func newProbe() *probe {
	return &probe{finds: map[string]providers.TestCode{}, once: map[string]bool{}, tested: map[string]int{}, schema: &providers.Schema{
		Kind: "probe", Category: providers.Storage, Label: "Probe", Version: 1,
		Tests:  []providers.TestLevel{{Level: 1, Label: "Reach"}},
		Params: []providers.Param{{Name: "host", Type: providers.String}},
	}}
}

func (p *probe) Schema() *providers.Schema { return p.schema }
func (p *probe) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	return providers.Direct(c), nil
}

func (p *probe) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	host := c.Text("host")
	p.tested[host]++
	t := providers.NewTest(ctx, c, o)
	t.Step("auth", func(context.Context) providers.Outcome {
		if code := p.finds[host]; code != "" {
			if p.once[host] {
				delete(p.finds, host)
			}
			return providers.Failed(code, "")
		}
		return providers.Good()
	})
	return t.Report("Connected"), nil
}

func (p *probe) find(host string, code providers.TestCode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finds[host], p.once[host] = code, false
}

// flap lets the next test alone find a fault.
func (p *probe) flap(host string, code providers.TestCode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finds[host], p.once[host] = code, true
}

func (p *probe) count(host string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tested[host]
}

// untestable is a kind without a test.
type untestable struct{ providers.Base }

var untestableSchema = &providers.Schema{Kind: "untestable", Category: providers.Storage, Label: "Untestable", Version: 1}

func (untestable) Schema() *providers.Schema { return untestableSchema }
func (untestable) Backend(context.Context, providers.Config) (providers.Backend, error) {
	return providers.Backend{}, nil
}

// lockedLog is the world's log for goroutines.
type lockedLog struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedLog) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), text)
}

type retests struct {
	*world
	probe *probe
	svc   *connector.Service
	lines *lockedLog
}

func withService(w *world) *retests {
	r := &retests{world: w, probe: newProbe(), lines: &lockedLog{}}
	kinds, err := providers.NewRegistry(r.probe, untestable{})
	w.ok(err)
	r.svc, err = connector.NewService(connector.ServiceOptions{
		Store: w.store, Secrets: w.secrets, Kinds: kinds, NewPin: vault.NewPin, TestsPerMinute: 100_000,
	})
	w.ok(err)
	return r
}

// live makes an active connector that was found connected.
func (r *retests) live(t tenant.ID, kind, host string) connector.ID {
	r.Helper()
	d := connector.Draft{Name: host, Kind: kind, Active: new(bool)}
	if kind == "probe" {
		d.Params = map[string]any{"host": host}
	}
	*d.Active = true
	out, err := r.svc.Create(r.Context(), connector.System(t), d)
	r.ok(err)
	return out.Connector.ID
}

func (r *retests) tenants(n int) (ids []tenant.ID) {
	r.Helper()
	for i := range n {
		id := tenant.MustID(fmt.Sprintf("tenant-%d", i))
		_, err := r.store.Change(r.Context(), connector.Change{Create: []connector.Tenant{{ID: id, Name: "T", Status: connector.StatusReady}}, Actor: "test"},
			func(context.Context, connector.Tx) error { return nil })
		r.ok(err)
		ids = append(ids, id)
	}
	return ids
}

func (r *retests) state(t tenant.ID, id connector.ID) connector.State {
	r.Helper()
	c, err := connector.Find(r.Context(), r.store.Tenant(t), id)
	r.ok(err)
	return c.State
}

// run runs a retester until the test ends it.
func (r *retests) run(o housekeeping.RetestOptions) (h *housekeeping.Retester, stop func()) {
	r.Helper()
	o.Store, o.Service, o.Log = r.store, r.svc, slog.New(slog.NewTextHandler(r.lines, nil))
	h = housekeeping.NewRetester(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			r.Errorf("Run: %v", err)
		}
	})
	r.Cleanup(stop)
	return h, stop
}

func (r *retests) until(what string, is func() bool) {
	r.Helper()
	for end := time.Now().Add(30 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.Fatalf("never happened: %s\n%s", what, r.lines.b.String())
		}
	}
}

func TestActiveConnectorsAreTested(t *testing.T) {
	both(t, func(w *world) {
		r := withService(w)
		suspended := r.tenants(1)[0]
		live, other := r.live(acme, "probe", "live"), r.live(acme, "probe", "broken")
		r.live(acme, "untestable", "untestable")
		idle := r.live(acme, "probe", "idle")
		_, err := r.svc.Deactivate(r.Context(), connector.System(acme), idle, connector.DeactivateOptions{})
		r.ok(err)
		lost := r.live(acme, "probe", "lost")
		r.change(func(ctx context.Context, tx connector.TenantTx) error {
			return tx.Update(ctx, lost, 1, func(c *connector.Connector) error { c.State = connector.StateNeedsReauthorization; return nil })
		})
		r.live(suspended, "probe", "suspended")
		_, err = r.store.Change(r.Context(), connector.Change{Tenants: []tenant.ID{suspended}, Actor: "test"}, func(ctx context.Context, tx connector.Tx) error {
			return tx.Tenant(suspended).UpdateTenant(ctx, func(t *connector.Tenant) error { t.Status = connector.StatusSuspended; return nil })
		})
		r.ok(err)
		before, err := r.store.Revisions(r.Context(), []tenant.ID{acme})
		r.ok(err)
		r.probe.find("broken", providers.CodeAuthFailed)
		h, stop := r.run(housekeeping.RetestOptions{Period: 240 * time.Millisecond, Confirm: 5 * time.Millisecond})
		r.until("the broken one is an error", func() bool { return r.state(acme, other) == connector.StateError })
		n := r.probe.count("live")
		r.until("the others go on", func() bool { return r.probe.count("live") > n+3 })
		r.probe.find("broken", "")
		r.until("the mended one is connected", func() bool { return r.state(acme, other) == connector.StateConnected })
		stop()
		if r.state(acme, live) != connector.StateConnected || h.Errors.Load() != 1 || h.Tests.Load() == 0 {
			r.Errorf("%s, %d errors in %d tests", r.state(acme, live), h.Errors.Load(), h.Tests.Load())
		}
		// The one test of each was the one that let it become active.
		for _, host := range []string{"idle", "lost", "suspended"} {
			if n := r.probe.count(host); n != 1 {
				r.Errorf("%s: %d tests", host, n)
			}
		}
		after, err := r.store.Revisions(r.Context(), []tenant.ID{acme})
		r.ok(err)
		if before.Revision[acme] != after.Revision[acme] {
			r.Error("testing moved the tenant's revision: every sidecar would read everything again")
		}
	})
}

// One test in a period, by whichever replica comes first.
func TestReplicasShareTheTests(t *testing.T) {
	t.Parallel()
	r := withService(embedded(t))
	for i := range 8 {
		r.live(acme, "probe", fmt.Sprint(i))
	}
	period := 2 * time.Second
	for range 3 {
		r.run(housekeeping.RetestOptions{Period: period})
	}
	begun := time.Now()
	r.until("each was tested twice", func() bool {
		for i := range 8 {
			if r.probe.count(fmt.Sprint(i)) < 3 { // one made it active
				return false
			}
		}
		return true
	})
	total := 0
	for i := range 8 {
		total += r.probe.count(fmt.Sprint(i)) - 1
	}
	// Each has a moment in each period. Without a look at the others' it would be
	// tested three times; some are, by accident.
	most := 8 * (int(time.Since(begun)/period) + 2) * 3 / 2
	if total > most {
		r.Errorf("%d tests, %d would be many", total, most)
	}
}

// A 401 that is gone a moment later is no reason to wake anybody.
func TestAFlappingFaultChangesNothing(t *testing.T) {
	t.Parallel()
	r := withService(embedded(t))
	id := r.live(acme, "probe", "flapping")
	r.probe.find("flapping", providers.CodeAuthFailed)
	h, stop := r.run(housekeeping.RetestOptions{Period: 200 * time.Millisecond, Confirm: time.Hour})
	r.until("the fault is found", func() bool { return h.Tests.Load() > 0 })
	n := h.Tests.Load()
	if r.state(acme, id) != connector.StateConnected {
		r.Error("the first finding decided")
	}
	stop() // it waits for no second test
	if h.Tests.Load() > n || r.state(acme, id) != connector.StateConnected || h.Errors.Load() != 0 {
		r.Errorf("%d tests, state %s", h.Tests.Load(), r.state(acme, id))
	}
	// And with a second test that passes.
	r.probe.flap("flapping", providers.CodeAuthFailed)
	h, _ = r.run(housekeeping.RetestOptions{Period: time.Hour / 10_000, Confirm: 5 * time.Millisecond})
	// A third comes once what the second found is recorded.
	r.until("the fault was found again, and the second test passed", func() bool { return h.Tests.Load() > 2 })
	if h.Errors.Load() != 0 || r.state(acme, id) != connector.StateConnected {
		r.Errorf("%d errors, state %s", h.Errors.Load(), r.state(acme, id))
	}
}

func TestAVendorsOutageIsNoTenantsFault(t *testing.T) {
	t.Parallel()
	r := withService(embedded(t))
	tenants := r.tenants(5)
	var ids []connector.ID
	for _, tn := range tenants {
		ids = append(ids, r.live(tn, "probe", tn.String()))
	}
	for _, tn := range tenants[:4] {
		r.probe.find(tn.String(), providers.CodeVendorError)
	}
	h, stop := r.run(housekeeping.RetestOptions{Period: 240 * time.Millisecond, Confirm: 5 * time.Millisecond, Window: time.Hour})
	r.until("an outage is found", func() bool { return h.Outages() == 1 && h.OutagesNow() == 1 })
	r.probe.find(tenants[4].String(), providers.CodeAuthFailed) // vendors in trouble answer all sorts of things
	n := r.probe.count(tenants[4].String())
	r.until("the fifth was tested meanwhile", func() bool { return r.probe.count(tenants[4].String()) > n+2 })
	for i, tn := range tenants {
		if s := r.state(tn, ids[i]); s != connector.StateConnected {
			r.Errorf("%s: %s during an outage", tn, s)
		}
	}
	for _, tn := range tenants[:4] {
		r.probe.find(tn.String(), "")
	}
	r.until("the outage is over", func() bool { return h.OutagesNow() == 0 })
	r.until("the fifth's own fault shows", func() bool { return r.state(tenants[4], ids[4]) == connector.StateError })
	stop()
	if h.Outages() != 1 || r.lines.count("a vendor is out") != 1 || r.lines.count("outage is over") != 1 {
		r.Errorf("%d outages:\n%s", h.Outages(), r.lines.b.String())
	}
}

// Two tenants are no evidence, and what is old is none.
func TestTooFewAreNoOutage(t *testing.T) {
	t.Parallel()
	r := withService(embedded(t))
	for _, tn := range r.tenants(2) {
		for i := range 3 {
			host := fmt.Sprintf("%s-%d", tn, i)
			r.live(tn, "probe", host)
			r.probe.find(host, providers.CodeVendorError)
		}
	}
	h, stop := r.run(housekeeping.RetestOptions{Period: 100 * time.Millisecond, Confirm: time.Millisecond})
	r.until("all were tested", func() bool { return h.Failed.Load() > 20 })
	stop()
	if h.Outages() != 0 {
		r.Errorf("%d outages", h.Outages())
	}
}

func TestDriftFollowsTheGrant(t *testing.T) {
	both(t, func(w *world) {
		r := withService(w)
		id := r.live(acme, "probe", "granted")
		r.change(func(ctx context.Context, tx connector.TenantTx) error { return tx.PutGrant(ctx, id, 1) })
		_, err := r.store.SettleGrant(r.Context(), acme, id, 1, connector.GrantNeedsReauthorization)
		r.ok(err)
		d := housekeeping.NewDrift(housekeeping.DriftOptions{Grants: r.store, Service: r.svc, Every: 10 * time.Millisecond})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				r.Errorf("Run: %v", err)
			}
		}()
		r.until("it needs to be authorized again", func() bool { return r.state(acme, id) == connector.StateNeedsReauthorization })
		_, err = r.store.SettleGrant(r.Context(), acme, id, 2, connector.GrantActive)
		r.ok(err)
		r.until("it is untested", func() bool { return r.state(acme, id) == connector.StateUntested })
		r.until("both are counted", func() bool { return d.Aligned.Load() == 2 })
	})
}
