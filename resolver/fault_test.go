package resolver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// redis is a Bus and a shared cache that live and die together, as one server.
type redis struct {
	*Bus
	*shared
}

func (s redis) Publish(ctx context.Context, ms []connector.Message) error {
	s.shared.mu.Lock()
	down := s.down
	if !down {
		for _, m := range ms {
			if !m.Tenant.IsZero() {
				s.revs[m.Tenant] = max(s.revs[m.Tenant], m.Revision)
			}
		}
	}
	s.shared.mu.Unlock()
	if down {
		return errDown
	}
	return s.Bus.Publish(ctx, ms)
}

func (s redis) isDown() bool {
	s.shared.mu.Lock()
	defer s.shared.mu.Unlock()
	return s.down
}

func (s redis) State(ctx context.Context) (Standing, error) {
	if s.isDown() {
		return Standing{}, errDown
	}
	return s.Bus.State(ctx)
}

func (s redis) Heartbeat(ctx context.Context, st Standing, within time.Duration) (bool, error) {
	if s.isDown() {
		return false, errDown
	}
	s.Bus.mu.Lock()
	same := s.name == st.Identity && s.sentinel >= st.Sentinel
	s.Bus.mu.Unlock()
	if !same {
		return false, nil
	}
	return s.Bus.Heartbeat(ctx, st, within)
}

// restart loses everything and every connection.
func (s redis) restart(n int) {
	s.with(func() { clear(s.revs); clear(s.entries) })
	s.Bus.mu.Lock()
	defer s.Bus.mu.Unlock()
	s.name, s.sentinel = fmt.Sprint("restart ", n), -1
	for sub := range s.subs {
		sub.end()
	}
}

// Three sidecars, two relays, one writer, readers without pause, and faults at
// random, alone and mixed. DESIGN 9.3: while a sidecar is connected nothing it
// serves was replaced more than a second ago; whatever happens, nothing is served
// as fresh past ttl, nor as stale past max_stale; config and secret never mix.
func TestInvariantsUnderFaults(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { underFaults(t, rand.New(rand.NewPCG(seed, 1))) })
		})
	}
}

func underFaults(t *testing.T, rnd *rand.Rand) {
	const ttl, maxStale = 10 * time.Second, 40 * time.Second
	w, box, server := newWorld(), newOutbox(), redis{NewBus(), newShared()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer func() { cancel(); wg.Wait() }()
	var sidecars []*Resolver
	var feeds []*faultyFeed
	for range 3 {
		feed := &faultyFeed{Bus: server.Bus}
		r := newResolver(t, w, func(o *Options) {
			o.Shared, o.TTL, o.MaxStale, o.NegativeTTL = server.shared, ttl, maxStale, 2*time.Second
		})
		sidecars, feeds = append(sidecars, r), append(feeds, feed)
		wg.Go(func() { _ = r.Listen(ctx, feed) })
		wg.Go(func() { _ = r.Keep(ctx) })
	}
	for range 2 {
		relay := NewRelay(box, server, nil)
		wg.Go(func() { _ = relay.Run(ctx) })
	}

	replaced := map[string]time.Time{} // by bucket
	current, n := "one", 0
	change := func() {
		n++
		next := fmt.Sprint("b", n)
		box.add(message(w.set(next, "secret-"+next)))
		replaced[current], current = time.Now(), next
	}
	connectedChecks := 0
	var lost time.Time
	read := func(healed bool) {
		for i, r := range sidecars {
			connected := r.Connected()
			readCtx, done := context.WithTimeout(ctx, 300*time.Millisecond)
			began := time.Now()
			a, err := r.Resolve(readCtx, slot, 0)
			done()
			if err != nil {
				if code := fault.CodeOf(err); code != fault.Unavailable && code != fault.DeadlineExceeded || healed {
					t.Fatalf("sidecar %d: %v", i, err)
				}
				continue
			}
			bucket, key := config(t, a)
			if key != "secret-"+bucket {
				t.Fatalf("sidecar %d mixes %s with %s", i, bucket, key)
			}
			old := time.Duration(0)
			if at, ok := replaced[bucket]; ok {
				old = began.Sub(at)
			}
			switch {
			case healed && (old > 0 || a.Stale || !connected):
				t.Fatalf("sidecar %d: connected %v, stale %v, %v old after everything healed", i, connected, a.Stale, old)
			case a.Stale && old > maxStale:
				t.Fatalf("sidecar %d serves what was replaced %v ago, as stale", i, old)
			case !a.Stale && old > ttl:
				t.Fatalf("sidecar %d serves what was replaced %v ago, as fresh", i, old)
			case connected && !a.Stale && old > time.Second && time.Since(lost) > ttl+5*time.Second:
				// A reader slower than the loss may bring a key back as it read it; then
				// ttl is the bound. It is a flight's time longer after the loss.
				t.Fatalf("sidecar %d is connected and serves what was replaced %v ago", i, old)
			}
			if connected {
				connectedChecks++
			}
		}
	}

	var undo []func()
	heal := func() {
		for _, f := range undo {
			f()
		}
		undo = nil
	}
	faults := []func(){
		func() { // one sidecar's feed goes silent
			f := feeds[rnd.IntN(3)]
			f.set(true, false)
			undo = append(undo, func() { f.set(false, false) })
		},
		func() { // one is cut off
			f := feeds[rnd.IntN(3)]
			f.set(true, true)
			undo = append(undo, func() { f.set(false, false) })
		},
		func() { // a message is lost on the way
			server.Bus.mu.Lock()
			server.number++
			server.Bus.mu.Unlock()
		},
		func() { // what arrives is held up
			f, hold, wait := feeds[rnd.IntN(3)], make(chan struct{}), time.Duration(rnd.IntN(900))*time.Millisecond
			f.mu.Lock()
			f.hold = hold
			f.mu.Unlock()
			go func() {
				time.Sleep(wait)
				f.mu.Lock()
				if f.hold == hold {
					f.hold = nil
				}
				f.mu.Unlock()
				close(hold)
			}()
		},
		func() { server.restart(rnd.Int()) },
		func() { // Redis is away
			server.with(func() { server.down = true })
			undo = append(undo, func() { server.with(func() { server.down = false }) })
		},
		func() { // keys are lost and nothing tells of it: the server lives on
			server.with(func() { clear(server.revs) })
			lost = time.Now()
		},
		func() { // the database is away for the sidecars
			w.with(func() { w.down = true })
			undo = append(undo, func() { w.with(func() { w.down = false }) })
		},
		func() { // or hangs
			_, release := heldRead(w)
			undo = append(undo, release)
		},
		func() { // for the relays
			box.mu.Lock()
			box.down = true
			box.mu.Unlock()
			undo = append(undo, func() { box.mu.Lock(); box.down = false; box.mu.Unlock() })
		},
		func() { // a relay hangs over a row
			box.mu.Lock()
			box.locked = map[int64]bool{int64(len(box.rows) + 1): true}
			box.mu.Unlock()
			undo = append(undo, func() { box.mu.Lock(); box.locked = nil; box.mu.Unlock() })
		},
		func() { // Vault is away
			w.with(func() { w.vaultDown = fault.New(fault.Unavailable, "403") })
			undo = append(undo, func() { w.with(func() { w.vaultDown = nil }) })
		},
	}
	for range 60 {
		faults[rnd.IntN(len(faults))]()
		for until := time.Now().Add(time.Duration(200+rnd.IntN(3000)) * time.Millisecond); time.Now().Before(until); {
			if rnd.IntN(40) == 0 {
				change()
			}
			read(false)
			time.Sleep(20 * time.Millisecond)
		}
		if rnd.IntN(3) == 0 {
			heal()
		}
	}
	heal()
	time.Sleep(15 * time.Second)
	read(true)
	change()
	time.Sleep(time.Second)
	read(true)
	if connectedChecks < 200 {
		t.Errorf("only %d answers while connected: the test shows little", connectedChecks)
	}
}
