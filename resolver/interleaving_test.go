package resolver

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// The interleavings of DESIGN 6, each forced. Every test here was seen to fail
// with the guard removed that its comment names.

type reply struct {
	a   Answer
	err error
}

// ask resolves in the background.
func ask(r *Resolver, minimum int64) <-chan reply {
	out := make(chan reply, 1)
	go func() {
		a, err := r.Resolve(context.Background(), slot, minimum)
		out <- reply{a, err}
	}()
	return out
}

// heldRead starts a read that has read the database and waits. release lets it
// and later ones go.
func heldRead(w *world) (reading <-chan struct{}, release func()) {
	hold, read := make(chan struct{}), make(chan struct{}, 100)
	w.with(func() { w.hold, w.reading = hold, read })
	return read, func() {
		w.with(func() { w.hold, w.reading = nil, nil })
		close(hold)
	}
}

// Guard: Fill stores only what is of the present revision, and a reading that a
// message overtook is made again. The reader's own fill comes after that of the
// sidecar that saw the change.
func TestSlowReaderFillsRedisLast(t *testing.T) {
	w, s := newWorld(), newShared()
	slow := newResolver(t, w, func(o *Options) { o.Shared = s })
	quick := newResolver(t, w, func(o *Options) { o.Shared = s })
	reading, release := heldRead(w)
	old := ask(slow, 0)
	<-reading
	w.set("two", "secret-two")
	w.with(func() { w.hold, w.reading = nil, nil })
	wantBucket(t, mustResolve(t, quick, 0), "two") // and Redis has it
	release()
	<-old // the slow one never heard of the change; its answer was true when it asked
	third := newResolver(t, w, func(o *Options) { o.Shared = s })
	a := mustResolve(t, third, 0)
	wantBucket(t, a, "two")
	if a.Source != FromRedis {
		t.Errorf("from %s", a.Source)
	}
}

// Guard: fromShared's three comparisons.
func TestRedisLostOrRewoundTheRevision(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(s *shared)
		want  Source
	}{
		{"as it was", func(*shared) {}, FromRedis},
		{"the key is gone, the entry is not", func(s *shared) { delete(s.revs, acme) }, FromDatabase},
		{"key and entry went back", func(*shared) {}, FromDatabase},
		{"only the key went back", func(s *shared) { s.revs[acme] = 9 }, FromDatabase},
		{"the key moved on", func(s *shared) { s.revs[acme] = 11 }, FromDatabase},
		{"the entry is rubbish", func(s *shared) {
			for k := range s.entries {
				s.entries[k] = []byte("{")
			}
		}, FromDatabase},
		{"Redis is away", func(s *shared) { s.down = true }, FromDatabase},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w, s := newWorld(), newShared()
			mustResolve(t, newResolver(t, w, func(o *Options) { o.Shared = s }), 0)
			r := newResolver(t, w, func(o *Options) { o.Shared = s })
			if c.name == "key and entry went back" { // relative to what this sidecar has heard
				w.with(func() { w.revision = 12 })
				r.heard(otherMessage(12), r.clock.now())
			}
			if c.name == "the key moved on" {
				w.with(func() { w.revision = 11 })
			}
			s.with(func() { c.spoil(s) })
			if a := mustResolve(t, r, 0); a.Source != c.want {
				t.Errorf("from %s, want %s", a.Source, c.want)
			}
		})
	}
}

// Guard: the age of a shared entry counts from its database time, plus the skew
// that is allowed; the fill's expiry from the beginning of the reading.
func TestRedisEntriesAgeFromTheirSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(), newShared()
		first := newResolver(t, w, func(o *Options) { o.Shared, o.FlightTimeout = s, time.Minute })
		reading, release := heldRead(w)
		old := ask(first, 0)
		<-reading
		time.Sleep(20 * time.Second)
		release()
		<-old
		if s.live != 40*time.Second {
			t.Errorf("an answer read 20 s ago lives %v in Redis", s.live)
		}
		time.Sleep(30 * time.Second) // 50 s after the snapshot
		second := newResolver(t, w, func(o *Options) { o.Shared = s })
		if a := mustResolve(t, second, 0); a.Source != FromRedis || a.Age != 51*time.Second {
			t.Errorf("from %s, age %v", a.Source, a.Age)
		}
		time.Sleep(8 * time.Second)
		if a := mustResolve(t, second, 0); a.Source != FromMemory {
			t.Errorf("within its time from %s", a.Source)
		}
		time.Sleep(2 * time.Second)
		if a := mustResolve(t, second, 0); a.Source != FromDatabase {
			t.Errorf("past its time from %s", a.Source)
		}
		// A snapshot from the future says that the clocks disagree, not how old it is.
		for k, b := range s.entries {
			rec, err := decodeRecord(b)
			if err != nil {
				t.Fatal(err)
			}
			rec.At = time.Now().Add(2 * time.Second)
			b, err = json.Marshal(rec)
			if err != nil {
				t.Fatal(err)
			}
			s.entries[k] = b
		}
		third := newResolver(t, w, func(o *Options) { o.Shared = s })
		if a := mustResolve(t, third, 0); a.Source != FromDatabase {
			t.Errorf("with clocks apart from %s", a.Source)
		}
	})
}

// Guard: each caller compares with its own minimum. Who asks for a revision that
// does not exist must not fail those who wait for the same flight.
func TestOneMinimumFailsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		reading, release := heldRead(w)
		greedy := ask(r, 99)
		<-reading
		modest := ask(r, 0)
		synctest.Wait() // it has joined
		release()
		if got := <-greedy; fault.CodeOf(got.err) != fault.Conflict {
			t.Errorf("the greedy one got %v", got.err)
		}
		if got := <-modest; got.err != nil || w.reads.Load() != 1 {
			t.Errorf("the modest one got %v after %d reads", got.err, w.reads.Load())
		}
	})
}

// Guard: join's floor. Who has heard of a change does not wait for a flight that
// began before it.
func TestFloorDoesNotJoinOlderFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		reading, release := heldRead(w)
		old := ask(r, 0)
		<-reading
		w.with(func() { w.hold, w.reading = nil, nil })
		r.heard(message(w.set("two", "secret-two")), r.clock.now())
		began := time.Now()
		wantBucket(t, mustResolve(t, r, 0), "two")
		if time.Since(began) != 0 {
			t.Errorf("waited %v for the older flight", time.Since(began))
		}
		release()
		wantBucket(t, (<-old).a, "two")
	})
}

// Guard: a flight looks into memory again. The caller looked before another
// flight landed and began its own after that.
func TestFlightThatComesLate(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	mustResolve(t, r, 0)
	a, err := r.miss(t.Context(), key{tenant: acme, org: acmeHQ, category: slot.Category}, nil, 0)
	if err != nil || a.Source != FromMemory || w.reads.Load() != 1 {
		t.Errorf("from %s after %d reads, %v", a.Source, w.reads.Load(), err)
	}
}

// Guard: fill. Anybody with a token could fill Redis with names that nobody has.
func TestUnknownNamesAreNotShared(t *testing.T) {
	w, s := newWorld(), newShared()
	w.missing = true
	r := newResolver(t, w, func(o *Options) { o.Shared = s })
	if _, err := r.Resolve(t.Context(), slotOf(1), 0); fault.CodeOf(err) != fault.NotFound {
		t.Fatal(err)
	}
	if _, err := r.Connector(t.Context(), ByID{Tenant: acme, Organization: acmeHQ, Connector: other}, 0); fault.CodeOf(err) != fault.NotFound {
		t.Fatal(err)
	}
	if len(s.entries) != 0 || len(s.revs) != 0 {
		t.Errorf("%d entries, %d revisions in Redis", len(s.entries), len(s.revs))
	}
}

func TestMinimumOfAMissingTenant(t *testing.T) {
	w := newWorld()
	w.missing = true
	r := newResolver(t, w, nil)
	if _, err := r.Resolve(t.Context(), slotOf(1), 99); fault.CodeOf(err) != fault.NotFound {
		t.Errorf("got %v", err)
	}
}

// Guard: a flight's bound follows what it reads. While its secrets are read the
// tenant's floor has risen by its own reading; the next callers still join it.
func TestStampedeWhileVaultIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(), newShared()
		s.revs[acme] = 9
		w.vaultHold = make(chan struct{})
		r := newResolver(t, w, func(o *Options) { o.Shared = s })
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() {
				if _, err := r.Resolve(t.Context(), slot, 0); err != nil {
					t.Error(err)
				}
			})
			time.Sleep(time.Millisecond) // they come one by one, for a second
		}
		close(w.vaultHold)
		wg.Wait()
		if w.reads.Load() != 1 || w.secretReads.Load() != 1 {
			t.Errorf("%d database reads, %d secret reads", w.reads.Load(), w.secretReads.Load())
		}
	})
}

// Guard: an old flight is not joined. One connection that hangs must not hold up
// everybody who comes after.
func TestDeadFlightIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		reading, release := heldRead(w)
		first := ask(r, 0)
		<-reading
		w.with(func() { w.hold, w.reading = nil, nil }) // the others get through
		time.Sleep(3 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := r.Resolve(ctx, slot, 0); err != nil {
			t.Errorf("behind a dead flight: %v", err)
		}
		release()
		<-first
	})
}

// Guard: replace keeps a floor that was raised after the disproving reading
// began.
func TestMessageWhileTheDatabaseWentBack(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	r.heard(message(100), r.clock.now()) // told by a primary that then lost it
	reading, release := heldRead(w)
	got := ask(r, 0)
	<-reading // 11, below 100
	// The new primary commits and its relay tells, before the reader returns.
	w.with(func() { w.revision = 119 })
	r.heard(message(w.set("two", "secret-two")), r.clock.now())
	release()
	out := <-got
	if out.err != nil {
		t.Fatal(out.err)
	}
	wantBucket(t, out.a, "two")
	wantBucket(t, mustResolve(t, r, 0), "two")
	if n := r.Stats.WentBack.Load(); n != 1 {
		t.Errorf("counted %d times", n)
	}
}

// Guard: living. Two flights of one tenant, and the first to land resets the
// tenant under the other.
func TestTwoFlightsWhileTheDatabaseWentBack(t *testing.T) {
	w, s := newWorld(), newShared()
	s.revs[acme] = 100
	r := newResolver(t, w, func(o *Options) { o.Shared = s })
	r.heard(message(100), r.clock.now())
	reading, release := heldRead(w)
	a := ask(r, 0)
	byID := make(chan error, 1)
	go func() {
		_, err := r.Connector(context.Background(), ByID{Tenant: acme, Organization: acmeHQ, Connector: theID}, 0)
		byID <- err
	}()
	<-reading
	<-reading
	release()
	if out := <-a; out.err != nil {
		t.Error(out.err)
	}
	if err := <-byID; err != nil {
		t.Error(err)
	}
	if n := r.Stats.WentBack.Load(); n != 1 {
		t.Errorf("counted %d times", n)
	}
	if s.revs[acme] != 10 || s.lowered[0] != 100 || s.lowered[1] != 10 {
		t.Errorf("Redis holds %d after %v", s.revs[acme], s.lowered)
	}
	mustResolve(t, r, 0)
	if w.reads.Load() > 4 {
		t.Errorf("%d reads", w.reads.Load())
	}
}

// The renewing statement finds it out too, when nobody reads.
func TestRenewalFindsThatTheDatabaseWentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		f.w.set("two", "secret-two")
		mustResolve(t, f.r, 0)
		f.w.set("one", "secret-one")
		f.w.with(func() { f.w.revision = 5 })
		for range 60 {
			time.Sleep(time.Second)
			mustResolve(t, f.r, 0)
		}
		wantBucket(t, mustResolve(t, f.r, 0), "one")
		if n := f.r.Stats.WentBack.Load(); n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}

// A reading that began before the revision was learned disproves nothing.
func TestOvertakenReadingIsNoWayBack(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	reading, release := heldRead(w)
	got := ask(r, 0)
	<-reading
	r.heard(message(w.set("two", "secret-two")), r.clock.now())
	release()
	wantBucket(t, (<-got).a, "two")
	if n := r.Stats.WentBack.Load(); n != 0 {
		t.Errorf("counted %d times", n)
	}
}

// Guard: admissible asks whether the tenant was rechecked since the present
// subscription. The flight began before a break in which its change was told.
func TestFlightAcrossABreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared()
		f := startFleet(t, s)
		time.Sleep(2 * time.Second)
		reading, release := heldRead(f.w)
		got := ask(f.r, 0)
		<-reading
		f.feed.set(false, true)
		f.feed.Bus.mu.Lock()
		for sub := range f.feed.Bus.subs {
			sub.end()
		}
		f.feed.Bus.mu.Unlock()
		revision := f.w.set("two", "secret-two")
		s.with(func() { s.revs[acme], s.hold = revision, make(chan struct{}) })
		time.Sleep(100 * time.Millisecond)
		f.feed.set(false, false)
		time.Sleep(1500 * time.Millisecond) // subscribed again; the recheck hangs
		if f.r.Connected() {
			t.Error("connected before the recheck")
		}
		release()
		out := <-got
		if out.err != nil {
			t.Fatal(out.err)
		}
		wantBucket(t, out.a, "two")
		wantBucket(t, mustResolve(t, f.r, 0), "two")
		close(s.hold)
	})
}

// Guard: distrust and checked only move forward, and a recheck whose
// subscription ended leaves no judgement.
func TestRecheckOfAnEndedSubscription(t *testing.T) {
	s := newShared()
	w := newWorld()
	r := newResolver(t, w, func(o *Options) { o.Shared = s })
	mustResolve(t, r, 0)
	s.down = true
	now := r.clock.now()
	r.recheck(t.Context(), now)
	st := r.states.all()[0]
	if instant(st.suspectBefore.Load()) != now || instant(st.checked.Load()) != now {
		t.Fatal("not suspect")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.recheck(ctx, now+5)
	r.recheck(t.Context(), now-5)
	if instant(st.suspectBefore.Load()) != now || instant(st.checked.Load()) != now {
		t.Error("an older or ended recheck had the last word")
	}
}

// Guard: settle marks what it holds as wrong before it reads the new secrets.
// Nobody told of the change but the database, and Vault hangs.
func TestKnownChangedWhileVaultHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		mustResolve(t, r, 0)
		w.set("two", "secret-two")
		w.vaultHold = make(chan struct{})
		time.Sleep(61 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if a, err := r.Resolve(ctx, slot, 0); fault.CodeOf(err) != fault.DeadlineExceeded {
			b, _ := config(t, a)
			t.Errorf("served %q, %v", b, err)
		}
		close(w.vaultHold)
		synctest.Wait()
		wantBucket(t, mustResolve(t, r, 0), "two")
	})
}

// Guard: patience. A frozen database gives no error; who can be served what is
// held does not pay with its whole deadline.
func TestFrozenDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		mustResolve(t, r, 0)
		time.Sleep(61 * time.Second)
		_, release := heldRead(w)
		began := time.Now()
		if a := mustResolve(t, r, 0); !a.Stale || time.Since(began) > 600*time.Millisecond {
			t.Errorf("stale %v after %v", a.Stale, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if a, err := r.Resolve(ctx, slot, 0); err != nil || !a.Stale {
			t.Errorf("with a short deadline: stale %v, %v", a.Stale, err)
		}
		release()
		time.Sleep(2 * time.Second)
		if a := mustResolve(t, r, 0); a.Stale {
			t.Error("stale after its return")
		}
	})
}

// Guard: claim. However many are asked for, a database that is away is tried
// once per 200 to 700 ms; when it is back, one statement renews all.
func TestOutageWithoutAHerd(t *testing.T) {
	const tenants = 200
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		all := func() (stale int) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			for i := range tenants {
				wg.Go(func() {
					a, err := f.r.Resolve(t.Context(), slotOf(i), 0)
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						t.Errorf("tenant %d: %v", i, err)
					}
					if a.Stale {
						stale++
					}
				})
			}
			wg.Wait()
			return stale
		}
		time.Sleep(time.Second)
		all()
		f.w.with(func() { f.w.down = true })
		for range 700 { // 70 s: past their time
			time.Sleep(100 * time.Millisecond)
			all()
		}
		if got := all(); got != tenants {
			t.Errorf("%d of %d stale", got, tenants)
		}
		began := time.Now()
		all()
		if time.Since(began) > 0 {
			t.Errorf("answers that are held took %v", time.Since(began))
		}
		reads, statements := f.w.reads.Load(), f.w.revisions.Load()
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			all()
		}
		if n := f.w.reads.Load() - reads + f.w.revisions.Load() - statements; n < 10 || n > 50 {
			t.Errorf("%d tries in 10 s", n)
		}
		f.w.with(func() { f.w.down = false })
		reads = f.w.reads.Load()
		for range 30 {
			time.Sleep(100 * time.Millisecond)
			all()
		}
		if got := all(); got != 0 {
			t.Errorf("%d stale three seconds after the return", got)
		}
		if n := f.w.reads.Load() - reads; n > 3 {
			t.Errorf("%d slots were read one by one", n)
		}
	})
}

// A cold slot waits a brief outage out and is refused at once in a long one.
func TestColdSlotInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		w.with(func() { w.down = true })
		_, err := r.Resolve(t.Context(), slotOf(1), 0)
		if fault.CodeOf(err) != fault.Unavailable {
			t.Fatal(err)
		}
		w.with(func() { w.down = false })
		if _, err := r.Resolve(t.Context(), slotOf(2), 0); err != nil {
			t.Errorf("after a blip: %v", err)
		}
		w.with(func() { w.down = true })
		for range 10 {
			_, _ = r.Resolve(t.Context(), slotOf(3), 0)
			time.Sleep(time.Second)
		}
		began, quick := time.Now(), 0
		for range 10 {
			if _, err := r.Resolve(t.Context(), slotOf(4), 0); fault.CodeOf(err) != fault.Unavailable || fault.RetryAfter(err) == 0 && errors.Is(err, errAway) {
				t.Error(err)
			}
			quick++
		}
		if time.Since(began) > time.Second {
			t.Errorf("%d refusals took %v", quick, time.Since(began))
		}
	})
}

// Guard: failed counts only what says that the database is away.
func TestOneBrokenRecordIsNoOutage(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	mustResolve(t, r, 0)
	w.broken = slotOf(1).Tenant
	if _, err := r.Resolve(t.Context(), slotOf(1), 0); fault.CodeOf(err) != fault.Internal {
		t.Fatal(err)
	}
	w.with(func() { w.revision++ })
	r.heard(otherMessage(w.revision), r.clock.now())
	if a := mustResolve(t, r, 0); a.Stale {
		t.Error("another tenant's broken record made this answer stale")
	}
}

// Guard: the recover in fly.
func TestPanicEndsOneFlight(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	w.panics = true
	if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Internal {
		t.Fatal(err)
	}
	w.with(func() { w.panics = false })
	mustResolve(t, r, 0)
}

// Guard: errSecretsGone expires. A version that Vault says is deleted is a clear
// answer, and one that its undeletion ends without a new revision.
func TestDeletedSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		w.vaultDown = fault.New(fault.NotFound, "deleted")
		for range 5 {
			if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.NeedsReauthorization {
				t.Fatal(err)
			}
		}
		if w.secretReads.Load() != 1 {
			t.Errorf("%d reads of a deleted secret", w.secretReads.Load())
		}
		w.with(func() { w.vaultDown = nil })
		time.Sleep(11 * time.Second)
		mustResolve(t, r, 0)
	})
}

// What was last known to be true at a moment may not be served longer because
// of a later one at which it was no longer trusted. Guard: period.since.
func TestStaleIsNotStampedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShared()
		f := startFleet(t, s)
		time.Sleep(2 * time.Second)
		mustResolve(t, f.r, 0)
		validated := time.Now()
		f.w.with(func() { f.w.down = true })
		f.feed.set(true, false) // a break, in which anything may be missed,
		s.with(func() { clear(s.revs) })
		time.Sleep(2 * time.Second)
		f.feed.set(false, false)
		time.Sleep(50 * time.Minute) // connected, but the answer stays suspect
		if a := mustResolve(t, f.r, 0); !a.Stale || a.Age < 50*time.Minute {
			t.Errorf("stale %v, age %v", a.Stale, a.Age)
		}
		f.box.add(otherMessage(11)) // and then a message that doesn't name it
		time.Sleep(time.Until(validated.Add(61 * time.Minute)))
		if _, err := f.r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("past max_stale: %v", err)
		}
	})
}

// Connected until the database and the feed go: the last moment known true is
// that of the feed's last proof, and the age counts from the validation.
func TestStaleCountsFromTheLastProof(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		time.Sleep(2 * time.Second)
		mustResolve(t, f.r, 0)
		f.w.with(func() { f.w.down = true })
		time.Sleep(2 * time.Hour) // connected all the time: still known to be true
		if a := mustResolve(t, f.r, 0); !a.Stale || a.Age != 0 {
			t.Errorf("stale %v, age %v while connected", a.Stale, a.Age)
		}
		f.feed.set(true, false)
		lost := time.Now()
		time.Sleep(59 * time.Minute)
		if a := mustResolve(t, f.r, 0); !a.Stale || a.Age < 2*time.Hour {
			t.Errorf("stale %v, age %v", a.Stale, a.Age)
		}
		time.Sleep(time.Until(lost.Add(time.Hour + time.Second)))
		if _, err := f.r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("past max_stale: %v", err)
		}
	})
}

func TestMaxStaleByCategory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, func(o *Options) {
			o.MaxStaleByCategory = map[providers.Category]time.Duration{slot.Category: 5 * time.Minute}
		})
		q := ByID{Tenant: acme, Organization: acmeHQ, Connector: theID}
		mustResolve(t, r, 0)
		if _, err := r.Connector(t.Context(), q, 0); err != nil {
			t.Fatal(err)
		}
		w.with(func() { w.down = true })
		time.Sleep(4 * time.Minute)
		for range 2 {
			if a := mustResolve(t, r, 0); !a.Stale {
				t.Error("not stale")
			}
			if a, err := r.Connector(t.Context(), q, 0); err != nil || !a.Stale {
				t.Errorf("by id: stale %v, %v", a.Stale, err)
			}
		}
		time.Sleep(2 * time.Minute)
		if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("past its max_stale: %v", err)
		}
		if _, err := r.Connector(t.Context(), q, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("by id past its category's max_stale: %v", err)
		}
	})
}

func TestNegativeAnswersAreServedStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.none = true
		r := newResolver(t, w, nil)
		for _, pause := range []time.Duration{0, 11 * time.Second, 30 * time.Minute} {
			time.Sleep(pause)
			a, err := r.Resolve(t.Context(), slot, 0)
			if fault.CodeOf(err) != fault.NoDefaultConnector || a.Stale != (pause != 0) {
				t.Errorf("after %v: %v, stale %v", pause, err, a.Stale)
			}
			w.with(func() { w.down = true })
		}
		time.Sleep(31 * time.Minute)
		if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("past max_stale: %v", err)
		}
	})
}

// Guard: a state lives as long as what memory holds of it. A tenant that asks
// once in a while is served in an outage like any other.
func TestIdleTenantIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		time.Sleep(time.Second)
		mustResolve(t, f.r, 0)
		time.Sleep(10 * time.Minute)
		f.w.with(func() { f.w.down = true })
		if a := mustResolve(t, f.r, 0); !a.Stale {
			t.Error("not stale")
		}
	})
}

// Memory that can't be served any more is given back, states of tenants with it.
func TestForgetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := startFleet(t, nil)
		time.Sleep(time.Second)
		f.w.with(func() { f.w.missing = true })
		for i := range 500 {
			if _, err := f.r.Resolve(t.Context(), slotOf(i), 0); fault.CodeOf(err) != fault.NotFound {
				t.Fatal(err)
			}
		}
		for i := range int64(500) { // of tenants that this sidecar never serves
			m := message(1000 + i)
			m.Tenant = slotOf(500 + int(i)).Tenant
			f.box.add(m)
		}
		time.Sleep(time.Minute)
		if n := len(f.r.states.all()); n != 1000 {
			t.Errorf("%d states within ttl: floors are kept that long", n)
		}
		time.Sleep(2 * time.Minute)
		if n := len(f.r.states.all()); n != 500 {
			t.Errorf("%d states after the floors' time", n)
		}
		f.feed.set(true, false)
		time.Sleep(62 * time.Minute)
		if n := len(f.r.states.all()); n != 0 || f.r.Held() {
			t.Errorf("%d states, held %v after max_stale", n, f.r.Held())
		}
	})
}

// A floor outlives every flight begun before it rose, however long it takes.
func TestFloorOutlivesFlights(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	reading, release := heldRead(w)
	got := ask(r, 0)
	<-reading
	r.heard(message(w.set("two", "secret-two")), r.clock.now())
	r.states.forget(r.clock.now().add(time.Hour)) // long after
	if all := r.states.all(); len(all) != 1 || all[0].floor.Load() != w.revision {
		t.Error("the floor was forgotten under a flight")
	}
	release()
	wantBucket(t, (<-got).a, "two")
}

// The counter that keeps states alive follows what memory does.
func TestEntriesAreCounted(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	mustResolve(t, r, 0)
	for range 3 {
		r.heard(message(w.set("two", "secret-two")), r.clock.now())
		mustResolve(t, r, 0)
		if n := r.states.all()[0].entries.Load(); n != 1 {
			t.Fatalf("%d entries", n)
		}
	}
	r.sweep(r.clock.now().add(2 * time.Hour))
	if n := r.states.all()[0].entries.Load(); n != 0 || r.Held() {
		t.Errorf("%d entries, held %v after the sweep", n, r.Held())
	}
}

// Messages that a replay repeats push nothing out of a tenant's memory of them.
func TestReplayedMessagesAreRememberedOnce(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	mustResolve(t, r, 0)
	for range 100 {
		r.heard(otherMessageOf(12), r.clock.now())
	}
	w.with(func() { w.down = true })
	if a := mustResolve(t, r, 0); !a.Stale {
		t.Error("not stale")
	}
	for i := range int64(keptChanges + 1) { // different ones do
		r.heard(otherMessage(13+i), r.clock.now())
	}
	if r.servable(key{tenant: acme, org: acmeHQ, category: slot.Category}, held(r), 0) {
		t.Error("served though what fell out of memory may have named it")
	}
}

var other = connector.NewID()

func otherMessageOf(revision int64) connector.Message {
	m := otherMessage(revision)
	m.Connector = other
	return m
}

func held(r *Resolver) *entry {
	e, _ := r.memory.GetIfPresent(key{tenant: acme, org: acmeHQ, category: slot.Category})
	return e
}

func TestResolveAllInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		w.down = true
		if _, err := r.ResolveAll(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("nothing known: %v", err)
		}
		w.with(func() { w.down, w.none = false, true })
		time.Sleep(time.Second)
		set, err := r.ResolveAll(t.Context(), slot, 0)
		if err != nil || len(set.Answers)+len(set.Errors) != 0 || set.Revision != 10 {
			t.Errorf("no defaults: %d answers, %v, revision %d, %v", len(set.Answers), set.Errors, set.Revision, err)
		}
	})
}

// A change that was undone before its secrets could be read: the answer is right
// again, and from memory.
func TestChangeIsUndone(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	mustResolve(t, r, 0)
	first, pin := w.version, w.pin
	revision := w.set("two", "secret-two")
	w.with(func() { w.vaultDown = fault.New(fault.Unavailable, "sealed") })
	r.heard(message(revision), r.clock.now())
	if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
		t.Fatal(err)
	}
	w.with(func() { w.bucket, w.version, w.pin, w.revision = "one", first, pin, revision+1 })
	r.heard(message(revision+1), r.clock.now())
	wantBucket(t, mustResolve(t, r, 0), "one")
	if a := mustResolve(t, r, 0); a.Source != FromMemory {
		t.Errorf("from %s", a.Source)
	}
}

// minting is S3 with tokens that end after a minute.
type minting struct{ providers.Provider }

func (p minting) Backend(ctx context.Context, c providers.Config) (providers.Backend, error) {
	b, err := p.Provider.Backend(ctx, c)
	b.ExpiresAt = time.Now().Add(time.Minute)
	return b, err
}

// A token is never served past its end, stale or not.
func TestTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, func(o *Options) {
			s3, _ := o.Kinds.Lookup("s3")
			kinds, err := providers.NewRegistry(minting{s3})
			if err != nil {
				t.Fatal(err)
			}
			o.Kinds, o.TTL = kinds, 10*time.Minute
		})
		first := mustResolve(t, r, 0)
		time.Sleep(59 * time.Second)
		if a := mustResolve(t, r, 0); a.Source != FromMemory || !a.ExpiresAt.Equal(first.ExpiresAt) {
			t.Errorf("before its end from %s", a.Source)
		}
		time.Sleep(time.Second)
		second := mustResolve(t, r, 0)
		if !second.ExpiresAt.After(first.ExpiresAt) || second.ETag == first.ETag {
			t.Errorf("after %v a token that ends at %v", first.ExpiresAt, second.ExpiresAt)
		}
		w.with(func() { w.down, w.revision = true, 11 })
		r.heard(otherMessage(11), r.clock.now())
		if a := mustResolve(t, r, 0); !a.Stale {
			t.Error("not stale")
		}
		time.Sleep(time.Minute)
		if a, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("served a token that ended %v ago, %v", time.Since(a.ExpiresAt), err)
		}
	})
}

// The limit of what one key can do: it vanishes alone (evicted, deleted by hand)
// after a change was told, and a reader that began before the change brings it
// back. Those who did not hear of the change serve the old answer until ttl has
// passed since the reading, and no longer.
func TestSlowReaderAfterALostKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s := newWorld(), newShared()
		slow := newResolver(t, w, func(o *Options) { o.Shared = s })
		reading, release := heldRead(w)
		old := ask(slow, 0)
		<-reading
		revision := w.set("two", "secret-two")
		s.with(func() { s.revs[acme] = revision; delete(s.revs, acme) })
		time.Sleep(4 * time.Second)
		release()
		<-old
		other := newResolver(t, w, func(o *Options) { o.Shared = s })
		mustResolve(t, other, 0)
		time.Sleep(57 * time.Second)
		wantBucket(t, mustResolve(t, other, 0), "two")
		wantBucket(t, mustResolve(t, slow, 0), "two")
	})
}
