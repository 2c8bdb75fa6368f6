package resolver

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
)

// outbox is an outbox in memory, as far as a relay needs one.
type outbox struct {
	connector.Outbox
	mu        sync.Mutex
	rows      []connector.Message
	sent      map[int64]bool
	committed chan struct{}
	locked    map[int64]bool // held by another relay
	last      func()         // runs before LastSent reads
	down      bool
}

func newOutbox() *outbox {
	return &outbox{sent: map[int64]bool{}, committed: make(chan struct{}, 1)}
}

func (o *outbox) add(m connector.Message) {
	o.mu.Lock()
	m.ID, m.At = int64(len(o.rows)+1), time.Now()
	o.rows = append(o.rows, m)
	o.mu.Unlock()
	signal(o.committed)
}

func (o *outbox) Relay(ctx context.Context, n int, send func(context.Context, []connector.Message) error) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down {
		return 0, errDown
	}
	var ms []connector.Message
	for _, m := range o.rows {
		if !o.sent[m.ID] && !o.locked[m.ID] && len(ms) < n {
			ms = append(ms, m)
		}
	}
	if len(ms) == 0 {
		return 0, nil
	}
	if err := send(ctx, ms); err != nil {
		return 0, err
	}
	for _, m := range ms {
		o.sent[m.ID] = true
	}
	return len(ms), nil
}

func (o *outbox) Unsent(_ context.Context, age time.Duration) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down {
		return false, errDown
	}
	for _, m := range o.rows {
		if !o.sent[m.ID] && time.Since(m.At) > age {
			return true, nil
		}
	}
	return false, nil
}

func (o *outbox) LastSent(context.Context) (int64, error) {
	if o.last != nil {
		o.last()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return int64(len(o.sent)), nil
}

func (o *outbox) Sent(_ context.Context, age time.Duration, after int64, n int) ([]connector.Message, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []connector.Message
	for _, m := range o.rows {
		if o.sent[m.ID] && m.ID > after && time.Since(m.At) < age && len(out) < n {
			out = append(out, m)
		}
	}
	return out, nil
}

func (o *outbox) Committed() <-chan struct{}                                { return o.committed }
func (o *outbox) SweepOutbox(context.Context, time.Duration) (int64, error) { return 0, nil }

// faultyFeed passes a Bus on, through a switch that silences it without closing
// anything: the half-open connection.
type faultyFeed struct {
	*Bus
	mu     sync.Mutex
	silent bool
	gone   bool
	drop   func(Event) bool // what is lost on the way
	hold   chan struct{}    // what arrives waits for it
}

type faultySubscription struct {
	Subscription
	f *faultyFeed
}

func (f *faultyFeed) state() (silent, gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.silent, f.gone
}

func (f *faultyFeed) set(silent, gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent, f.gone = silent, gone
}

func (f *faultyFeed) Subscribe(ctx context.Context) (Subscription, error) {
	if _, gone := f.state(); gone {
		return nil, errors.New("refused")
	}
	s, err := f.Bus.Subscribe(ctx)
	return &faultySubscription{s, f}, err
}

func (s *faultySubscription) Receive(ctx context.Context) (Event, error) {
	for {
		ev, err := s.Subscription.Receive(ctx)
		if silent, _ := s.f.state(); err == nil && silent {
			continue
		}
		s.f.mu.Lock()
		drop, hold := s.f.drop, s.f.hold
		s.f.mu.Unlock()
		if err == nil && drop != nil && drop(ev) {
			continue
		}
		if hold != nil {
			select {
			case <-hold:
			case <-ctx.Done():
			}
		}
		return ev, err
	}
}

// fleet runs a relay and a listening resolver in the present bubble.
type fleet struct {
	w     *world
	r     *Resolver
	box   *outbox
	feed  *faultyFeed
	relay *Relay
}

func startFleet(t *testing.T, shared Shared) *fleet {
	f := &fleet{w: newWorld(), box: newOutbox(), feed: &faultyFeed{Bus: NewBus()}}
	f.r = newResolver(t, f.w, func(o *Options) { o.Shared = shared })
	f.relay = NewRelay(f.box, f.feed.Bus, nil)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.relay.Run(ctx) })
	wg.Go(func() { _ = f.r.Listen(ctx, f.feed) })
	wg.Go(func() { _ = f.r.Keep(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return f
}

func (f *fleet) change(bucket string) {
	f.box.add(message(f.w.set(bucket, "secret-"+bucket)))
}

func TestChangeArrives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		time.Sleep(2 * time.Second)
		if !f.r.Connected() {
			t.Fatal("never connected")
		}
		wantBucket(t, mustResolve(t, f.r, 0), "one")
		f.change("two")
		synctest.Wait() // the commit kicks the relay: no time passes
		a := mustResolve(t, f.r, 0)
		wantBucket(t, a, "two")
		if a.Age != 0 {
			t.Errorf("age %v while connected", a.Age)
		}
		// Connected, nothing changes: one statement per tenant and half a TTL
		// keeps the answer fresh, without reading it again.
		before := f.w.reads.Load()
		for range 300 {
			time.Sleep(time.Second)
			if a := mustResolve(t, f.r, 0); a.Source != FromMemory || a.Stale {
				t.Fatalf("source %s, stale %v", a.Source, a.Stale)
			}
		}
		if got := f.w.reads.Load() - before; got != 0 {
			t.Errorf("%d reads of an answer that did not change", got)
		}
		if n := f.w.revisions.Load(); n < 5 || n > 15 {
			t.Errorf("%d revision statements in five minutes", n)
		}
	})
}

// A subscription that is open but silent must end the claim to be connected
// within half a second and be given up after one.
func TestSilentSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		time.Sleep(2 * time.Second)
		mustResolve(t, f.r, 0)
		f.feed.set(true, false)
		time.Sleep(800 * time.Millisecond)
		if f.r.Connected() {
			t.Error("connected to silence")
		}
		time.Sleep(time.Second)
		if f.r.Stats.Breaks.Load() == 0 {
			t.Error("the silent connection was kept")
		}
		f.change("two") // nobody hears of it
		time.Sleep(time.Second)
		f.feed.set(false, false)
		time.Sleep(3 * time.Second)
		if !f.r.Connected() {
			t.Fatal("not connected again")
		}
		wantBucket(t, mustResolve(t, f.r, 0), "two")
	})
}

// Without any feed an answer is never older than TTL: the revision statement
// finds the change.
func TestNoFeedBoundsByTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		f.feed.set(false, true)
		f.feed.Bus.mu.Lock()
		for s := range f.feed.Bus.subs {
			s.end()
		}
		f.feed.Bus.mu.Unlock()
		time.Sleep(2 * time.Second)
		mustResolve(t, f.r, 0)
		changed := time.Now()
		f.change("two")
		statements := f.w.revisions.Load()
		for {
			if b, _ := config(t, mustResolve(t, f.r, 0)); b == "two" {
				break
			}
			if time.Since(changed) > time.Minute {
				t.Fatal("the old answer outlived its TTL")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := f.w.revisions.Load() - statements; time.Duration(n)*time.Second > time.Since(changed)+time.Second {
			t.Errorf("%d statements in %v", n, time.Since(changed))
		}
	})
}

// A missing number is a break, even while heartbeats go on.
func TestGapIsABreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		time.Sleep(2 * time.Second)
		mustResolve(t, f.r, 0)
		f.feed.Bus.mu.Lock()
		f.feed.Bus.number++ // a message was lost on the way
		f.feed.Bus.mu.Unlock()
		f.w.set("two", "secret-two")
		time.Sleep(3 * time.Second)
		if f.r.Stats.Breaks.Load() != 1 {
			t.Errorf("%d breaks", f.r.Stats.Breaks.Load())
		}
		wantBucket(t, mustResolve(t, f.r, 0), "two")
	})
}

func TestRecheckAfterBreak(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(*shared)
		reads int64 // of the database for an answer that did not change
	}{
		{"key present", func(*shared) {}, 0},
		{"key lost", func(s *shared) { clear(s.revs) }, 1},
		{"key went back", func(s *shared) { s.revs[acme] = 9 }, 1},
		{"Redis away", func(s *shared) { s.down = true }, 1},
		{"key moved on", func(s *shared) { s.revs[acme] = 11 }, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newShared()
				f := startFleet(t, s)
				time.Sleep(2 * time.Second)
				mustResolve(t, f.r, 0)
				if c.name == "key moved on" {
					f.w.with(func() { f.w.revision = 11 })
				}
				before := f.w.reads.Load()
				s.with(func() { c.spoil(s) })
				f.feed.set(true, false)
				time.Sleep(2 * time.Second)
				f.feed.set(false, false)
				time.Sleep(3 * time.Second)
				mustResolve(t, f.r, 0)
				if got := f.w.reads.Load() - before; got != c.reads {
					t.Errorf("%d reads, want %d", got, c.reads)
				}
			})
		})
	}
}

// Half-open in one direction or the other, or open to a Redis whose relays are
// silent: each proof of life is needed, and another message is none.
func TestHalfOpenSubscription(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(f *fleet)
	}{
		{"answers to pings are lost", func(f *fleet) {
			f.feed.mu.Lock()
			defer f.feed.mu.Unlock()
			f.feed.drop = func(ev Event) bool { return ev.Kind == EventPong }
		}},
		{"the relay has nothing to vouch for", func(f *fleet) {
			f.box.mu.Lock()
			defer f.box.mu.Unlock()
			f.box.locked = map[int64]bool{1: true} // hangs in another relay
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := startFleet(t, nil)
				time.Sleep(2 * time.Second)
				if !f.r.Connected() {
					t.Fatal("never connected")
				}
				breaks := f.r.Stats.Breaks.Load()
				c.spoil(f)
				stop := make(chan struct{})
				go func() { // messages go on all the time
					for revision := int64(20); ; revision++ {
						select {
						case <-stop:
							return
						case <-time.After(50 * time.Millisecond):
							m := otherMessage(revision)
							m.Tenant = slotOf(1).Tenant
							f.box.add(m)
						}
					}
				}()
				time.Sleep(950 * time.Millisecond) // a row may be unsent for 250 ms, proof lasts 500
				if f.r.Connected() {
					t.Error("connected without proof")
				}
				if f.r.Stats.Breaks.Load() != breaks {
					t.Error("the connection was given up for another reason")
				}
				time.Sleep(700 * time.Millisecond)
				if f.r.Stats.Breaks.Load() == breaks {
					t.Error("the connection was kept for more than a second")
				}
				close(stop)
			})
		})
	}
}

// A heartbeat that waited in a buffer is as old as the wait: it says nothing of
// what was committed since. Guard: it counts from the latest answered PING.
func TestLateHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		time.Sleep(2 * time.Second)
		mustResolve(t, f.r, 0)
		hold := make(chan struct{})
		f.feed.mu.Lock()
		f.feed.hold = hold
		f.feed.mu.Unlock()
		time.Sleep(300 * time.Millisecond) // a heartbeat is on its way
		f.box.mu.Lock()
		f.box.down = true // and then the relay is cut off from the database
		f.box.mu.Unlock()
		f.w.set("two", "secret-two")
		changed := time.Now()
		time.Sleep(450 * time.Millisecond)
		f.feed.mu.Lock()
		f.feed.hold = nil
		f.feed.mu.Unlock()
		close(hold)
		for time.Since(changed) < 2*time.Second {
			time.Sleep(10 * time.Millisecond)
			if time.Since(changed) > 750*time.Millisecond && f.r.Connected() {
				t.Fatalf("connected %v after a change that no relay has told", time.Since(changed))
			}
		}
	})
}

// Without Redis and with Postgres: fresh answers, a change seen within ttl, one
// statement a second at most, and no reading of what did not change.
func TestRedisDownPostgresUp(t *testing.T) {
	const tenants = 300
	synctest.Test(t, func(t *testing.T) {
		s := newShared()
		s.down = true
		f := startFleet(t, s)
		f.feed.set(false, true)
		f.feed.Bus.mu.Lock()
		for sub := range f.feed.Bus.subs {
			sub.end()
		}
		f.feed.Bus.mu.Unlock()
		all := func() {
			for i := range tenants {
				if a, err := f.r.Resolve(t.Context(), slotOf(i), 0); err != nil || a.Stale {
					t.Fatalf("tenant %d: stale %v, %v", i, a.Stale, err)
				}
			}
		}
		for i := range tenants { // so that somebody is due all the time
			if _, err := f.r.Resolve(t.Context(), slotOf(i), 0); err != nil {
				t.Fatal(err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for range 300 { // what is due when has its chance: long enough for twice the least that shows anything
			time.Sleep(time.Second)
			all()
		}
		if f.r.Connected() {
			t.Error("connected without Redis")
		}
		if n := f.w.reads.Load(); n != tenants {
			t.Errorf("%d reads of %d slots that did not change", n, tenants)
		}
		f.w.mu.Lock()
		asked := f.w.asked
		f.w.mu.Unlock()
		if len(asked) < 20 {
			t.Errorf("%d statements in five minutes: the test shows little", len(asked))
		}
		for i := 1; i < len(asked); i++ {
			if gap := asked[i].Sub(asked[i-1]); gap < time.Second {
				t.Errorf("two statements within %v", gap)
			}
		}
		f.w.set("two", "secret-two")
		time.Sleep(time.Minute)
		a, err := f.r.Resolve(t.Context(), slotOf(7), 0)
		if err != nil {
			t.Fatal(err)
		}
		wantBucket(t, a, "two")
	})
}

// The rev key of a re-subscription says that nothing was missed; it never makes
// an answer younger.
func TestRecheckDoesNotExtend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(), newShared()
		r := newResolver(t, w, func(o *Options) { o.Shared = s })
		mustResolve(t, r, 0)
		time.Sleep(50 * time.Second)
		r.recheck(t.Context(), r.clock.now())
		if a := mustResolve(t, r, 0); a.Source != FromMemory || a.Age != 50*time.Second {
			t.Errorf("from %s, age %v", a.Source, a.Age)
		}
		time.Sleep(11 * time.Second)
		if a := mustResolve(t, r, 0); a.Source != FromDatabase {
			t.Errorf("after ttl from %s", a.Source)
		}
	})
}
