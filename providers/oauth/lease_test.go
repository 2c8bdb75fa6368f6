package oauth

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
)

// quick is a process whose leases last half a second.
func quick(o *Options) { o.HTTPTimeout = 200 * time.Millisecond }

// suspend lets a manager's lease run out at a step, as a suspended process' does,
// until resume is called.
func (w *world) suspend(m *Manager, step string) (there <-chan struct{}, resume func()) {
	return w.pause(m, step, func() { w.lease.down.Store(true) }) // its renewals come to nothing
}

// pause holds a refresh at a step.
func (w *world) pause(m *Manager, step string, then func()) (there <-chan struct{}, resume func()) {
	reached, gone := make(chan struct{}), make(chan struct{})
	resume = sync.OnceFunc(func() { close(gone) })
	w.Cleanup(resume) // before the manager's own, which waits for the refresh
	stepping(m, step, func() { then(); close(reached); <-gone })
	return reached, resume
}

func TestALeaseIsKeptAlive(t *testing.T) {
	t.Parallel()
	w, _, _ := connected(t, time.Hour, true)
	w.age(-time.Second)
	m := w.manager(quick)
	there, resume := w.pause(m, "read", func() {})
	go func() { _, _ = w.source(m).Token(within(t, 20*time.Second)) }()
	<-there
	first := w.row()
	eventually(t, "three lengths of the lease are over", 10*time.Second, func() bool {
		row := w.row()
		if row.Owner != first.Owner || !row.Until.After(row.At) {
			t.Fatalf("the lease was lost: %+v", row)
		}
		return row.At.Sub(first.At) > 3*m.lease
	})
	resume()
	w.ask(m)
}

// Who finds that its lease is gone asks nobody.
func TestALostLeaseIsNoticed(t *testing.T) {
	t.Parallel()
	w, i, _ := connected(t, time.Hour, true)
	w.age(-time.Second)
	m := w.manager(quick)
	there, resume := w.suspend(m, "read")
	done := make(chan error, 1)
	go func() { _, err := w.source(m).Token(within(t, 20*time.Second)); done <- err }()
	<-there
	eventually(t, "another has the lease", 10*time.Second, func() bool {
		_, got, err := w.store.AcquireGrant(t.Context(), acme, w.id, "another", time.Hour)
		return err == nil && got
	})
	w.lease.down.Store(false)
	resume()
	if err := <-done; fault.CodeOf(err) != fault.Unavailable {
		t.Error(err)
	}
	if i.refreshed.Load() != 0 {
		t.Error("the issuer was asked without the lease")
	}
	if row := w.row(); row.Owner != "another" {
		t.Errorf("another's lease was given back: %+v", row)
	}
}

// A holder that is suspended between the issuer's answer and its own write heals
// what its successor concludes from a refresh token that was taken already.
func TestASuspendedHolderHeals(t *testing.T) {
	t.Parallel()
	w, i, _ := connected(t, time.Hour, true)
	w.age(-time.Second)
	slow, next := w.manager(quick), w.manager(func(o *Options) { o.Lease = w.store })
	there, resume := w.suspend(slow, "answered")
	done := make(chan error, 1)
	go func() { _, err := w.source(slow).Token(within(t, 20*time.Second)); done <- err }()
	<-there
	w.fails(next, providers.CodeNeedsReauthorization, fault.NeedsReauthorization)
	if row := w.row(); row.Status != connector.GrantNeedsReauthorization {
		t.Fatalf("%+v", row)
	}
	w.lease.down.Store(false)
	resume()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if row := w.row(); row.Status != connector.GrantActive || row.Version != w.ref.GrantVersion+1 {
		t.Errorf("%+v", row)
	}
	eventually(t, "the successor has the token too", 10*time.Second, func() bool {
		tok, err := w.source(next).Token(t.Context())
		return err == nil && tok.Access.Equal(w.stored().Values[grantAccess])
	})
	if i.refreshed.Load() != 1 || i.invalid.Load() != 1 {
		t.Errorf("%d refreshed, %d refused", i.refreshed.Load(), i.invalid.Load())
	}
}

// A clear answer takes effect at once, whatever is left of the held token's life.
func TestARefusedGrantEndsTheHeldToken(t *testing.T) {
	t.Parallel()
	w, i, m := connected(t, time.Hour, true)
	w.age(time.Minute)
	v := w.stored().Values.Clone()
	v[grantRefresh] = secret.New("unknown")
	w.give(v)
	m.holdStored(w)
	w.ask(m) // the held one, and a refresh begins
	eventually(t, "the held token is served no more", 10*time.Second, func() bool {
		_, err := w.source(m).Token(t.Context())
		return fault.CodeOf(err) == fault.NeedsReauthorization
	})
	if i.invalid.Load() == 0 {
		t.Error("the issuer was not asked")
	}
}

// Without the lease store the claim in Redis keeps a fleet from asking all at once.
func TestAClaimStandsInForTheLease(t *testing.T) {
	t.Parallel()
	w, i, _ := connected(t, time.Hour, false)
	w.age(-time.Second)
	w.lease.down.Store(true)
	cache := shared(t, testenv.Redis(t))
	i.before.Store(hook(func(http.ResponseWriter, *http.Request) bool {
		<-time.After(100 * time.Millisecond) // long enough for all to be there
		return false
	}))
	var all sync.WaitGroup
	begun := time.Now()
	for range 10 {
		m := w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k", 1) })
		all.Go(func() {
			if tok, err := w.source(m).Token(within(t, 20*time.Second)); err != nil || !i.good(tok.Access.Reveal()) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := i.refreshed.Load(); n != 1 {
		t.Errorf("%d refreshes", n)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("they waited %v, for a claim to run out", took)
	}
}

// A token's moment is the same however often it is read, and another elsewhere.
func TestTheMomentOfRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, providers.OAuthApp{Flow: providers.FlowConsent})
	now := time.Now()
	at := token{issued: now}
	at.ExpiresAt = now.Add(time.Hour)
	k := keyOf(w.ref, w.app)
	seen := map[time.Time]bool{}
	for range 50 {
		m := w.manager(nil)
		first := m.timed(k, at)
		if again := m.timed(k, at); !again.RefreshAt.Equal(first.RefreshAt) {
			t.Fatal("it was drawn twice")
		}
		if d := first.RefreshAt.Sub(now); d < 42*time.Minute || d > 51*time.Minute {
			t.Errorf("after %v", d)
		}
		seen[first.RefreshAt] = true
	}
	if len(seen) < 45 {
		t.Errorf("50 processes have %d moments", len(seen))
	}
}
