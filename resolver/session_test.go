package resolver

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/vault"
)

// right is a Session over a world's secrets that a test can end or refuse.
type right struct {
	w       *world
	id      uint64
	dead    atomic.Bool
	refused atomic.Bool
	reads   atomic.Int64
}

func (r *right) ID() uint64 { return r.id }
func (r *right) Live() bool { return !r.dead.Load() }
func (r *right) Read(ctx context.Context, ref connector.SecretRef) (vault.Bundle, error) {
	r.reads.Add(1)
	if r.refused.Load() {
		return vault.Bundle{}, fault.New(fault.PermissionDenied, "Vault does not accept this token")
	}
	return r.w.Read(ctx, ref)
}

func with(s Slot, r *right) Slot {
	s.Session = r
	return s
}

// A right is its caller's own: nobody is served what another one read, and the
// process reads nothing for anybody.
func TestSessionsShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		a, b := &right{w: w, id: 1}, &right{w: w, id: 2}
		b.refused.Store(true)
		if _, err := r.Resolve(t.Context(), with(slot, a), 0); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := r.Resolve(t.Context(), with(slot, b), 0); fault.CodeOf(err) != fault.PermissionDenied {
				t.Fatalf("a caller without a right was answered: %v", err)
			}
		}
		if _, err := r.Connector(t.Context(), ByID{Tenant: acme, Organization: acmeHQ, Connector: theID, Session: b}, 0); fault.CodeOf(err) != fault.PermissionDenied {
			t.Fatalf("by id: %v", err)
		}
		if got, err := r.Resolve(t.Context(), with(slot, a), 0); err != nil || got.Source != FromMemory {
			t.Fatalf("%+v %v", got.Source, err)
		}
		if a.reads.Load() != 1 {
			t.Errorf("%d reads with one right", a.reads.Load())
		}
	})
}

// Two callers at once, one of whom Vault refuses: a flight carries one right.
func TestSessionsDoNotJoinFlights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.hold = make(chan struct{})
		w.reading = make(chan struct{}, 2)
		r := newResolver(t, w, nil)
		a, b := &right{w: w, id: 1}, &right{w: w, id: 2}
		b.refused.Store(true)
		var wg sync.WaitGroup
		var errs [2]error
		for i, x := range []*right{a, b} {
			wg.Go(func() { _, errs[i] = r.Resolve(t.Context(), with(slot, x), 0) })
		}
		<-w.reading
		<-w.reading
		close(w.hold)
		wg.Wait()
		if errs[0] != nil || fault.CodeOf(errs[1]) != fault.PermissionDenied {
			t.Errorf("%v", errs)
		}
	})
}

// What was read with a right ends with it, also in an outage, and is dropped from
// memory.
func TestSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() { _ = r.Keep(ctx) }()
		a := &right{w: w, id: 1}
		if _, err := r.Resolve(t.Context(), with(slot, a), 0); err != nil {
			t.Fatal(err)
		}
		a.dead.Store(true)
		w.with(func() { w.down = true })
		if got, err := r.Resolve(t.Context(), with(slot, a), 0); !fault.Outage(err) {
			t.Errorf("an ended right was served %+v %v", got, err)
		}
		w.with(func() { w.down = false })
		time.Sleep(5 * time.Second)
		if r.Held() || r.pins.EstimatedSize() != 0 {
			t.Errorf("kept: %d answers, %d bundles", r.memory.EstimatedSize(), r.pins.EstimatedSize())
		}
		b := &right{w: w, id: 2}
		if _, err := r.Resolve(t.Context(), with(slot, b), 0); err != nil || b.reads.Load() != 1 {
			t.Errorf("the next right: %v after %d reads", err, b.reads.Load())
		}
	})
}

// A right that ends while its flight is under way leaves nothing behind.
func TestSessionEndsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.vaultHold = make(chan struct{})
		r := newResolver(t, w, nil)
		a := &right{w: w, id: 1}
		go func() { _, _ = r.Resolve(t.Context(), with(slot, a), 0) }()
		synctest.Wait()
		a.dead.Store(true)
		r.forgetSessions()
		close(w.vaultHold)
		synctest.Wait()
		if r.Held() || r.pins.EstimatedSize() != 0 {
			t.Errorf("kept: %d answers, %d bundles", r.memory.EstimatedSize(), r.pins.EstimatedSize())
		}
	})
}
