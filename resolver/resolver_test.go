package resolver

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// config reads bucket and secret out of an answer.
func config(t *testing.T, a Answer) (bucket, key string) {
	t.Helper()
	var body struct {
		Config struct {
			Bucket string `json:"bucket"`
			Key    string `json:"secret_access_key"`
		} `json:"config"`
		Stale bool `json:"stale"`
	}
	if err := json.Unmarshal(a.Body.Reveal(), &body); err != nil {
		t.Fatalf("the body is no JSON: %v", err)
	}
	if body.Stale != a.Stale {
		t.Fatalf("stale in the body is %v, in the answer %v", body.Stale, a.Stale)
	}
	return body.Config.Bucket, body.Config.Key
}

func mustResolve(t *testing.T, r *Resolver, minimum int64) Answer {
	t.Helper()
	a, err := r.Resolve(t.Context(), slot, minimum)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func wantBucket(t *testing.T, a Answer, want string) {
	t.Helper()
	if b, k := config(t, a); b != want || k != "secret-"+want {
		t.Fatalf("bucket %q with key %q, want those of %q", b, k, want)
	}
}

func TestColdThenHot(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	first := mustResolve(t, r, 0)
	wantBucket(t, first, "one")
	if first.Source != FromDatabase {
		t.Errorf("the first answer came from %s", first.Source)
	}
	second := mustResolve(t, r, 0)
	if second.Source != FromMemory || second.ETag != first.ETag || w.reads.Load() != 1 || w.secretReads.Load() != 1 {
		t.Errorf("second: %s, same tag %v, %d reads, %d secret reads", second.Source, second.ETag == first.ETag, w.reads.Load(), w.secretReads.Load())
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", first, first, first), "secret-one") {
		t.Error("an answer prints its secret")
	}
}

func TestHitAllocatesNothing(t *testing.T) {
	r := newResolver(t, newWorld(), nil)
	mustResolve(t, r, 0)
	ctx := context.Background()
	// A thousand a run: the average is rounded down, and one in sixteen would
	// pass for none.
	if n := testing.AllocsPerRun(20, func() {
		for range 1000 {
			if _, err := r.Resolve(ctx, slot, 0); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("a thousand memory hits allocate %v times", n)
	}
}

func TestStampede(t *testing.T) {
	w := newWorld()
	w.hold, w.reading = make(chan struct{}), make(chan struct{}, 1000)
	r := newResolver(t, w, nil)
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if _, err := r.Resolve(t.Context(), slot, 0); err != nil {
				t.Error(err)
			}
		})
	}
	<-w.reading
	close(w.hold)
	wg.Wait()
	if w.reads.Load() != 1 || w.secretReads.Load() != 1 {
		t.Errorf("%d database reads and %d secret reads for one cold slot", w.reads.Load(), w.secretReads.Load())
	}
}

// A fill that lands after the invalidation must not resurrect the old answer.
func TestFillAfterInvalidation(t *testing.T) {
	w := newWorld()
	w.hold, w.reading = make(chan struct{}), make(chan struct{}, 4)
	r := newResolver(t, w, nil)
	got := make(chan Answer, 1)
	go func() {
		a, err := r.Resolve(context.Background(), slot, 0)
		if err != nil {
			t.Error(err)
		}
		got <- a
	}()
	<-w.reading // the flight has read the old record and is on its way back
	revision := w.set("two", "secret-two")
	r.heard(message(revision), r.clock.now())
	close(w.hold)
	wantBucket(t, <-got, "two")
	wantBucket(t, mustResolve(t, r, 0), "two")
}

// A caller that wants at least a revision must not join a flight that began
// below it.
func TestMinimumDoesNotJoinOlderFlight(t *testing.T) {
	w := newWorld()
	hold := make(chan struct{})
	w.hold, w.reading = hold, make(chan struct{}, 4)
	r := newResolver(t, w, nil)
	old := make(chan Answer, 1)
	go func() {
		a, _ := r.Resolve(context.Background(), slot, 0)
		old <- a
	}()
	<-w.reading
	revision := w.set("two", "secret-two")
	w.with(func() { w.hold = nil })
	a, err := r.Resolve(t.Context(), slot, revision)
	if err != nil {
		t.Fatal(err)
	}
	wantBucket(t, a, "two")
	close(hold)
	<-old
	// The older flight ends last; what it stores must not replace the newer.
	wantBucket(t, mustResolve(t, r, revision), "two")
}

func TestMinimumAboveTheDatabase(t *testing.T) {
	r := newResolver(t, newWorld(), nil)
	_, err := r.Resolve(t.Context(), slot, 99)
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("got %v", err)
	}
	// It was the caller's number, not news: the floor stays.
	if f := r.states.hold(acme).floor.Load(); f != 10 {
		t.Errorf("a minimum moved the floor to %d", f)
	}
}

// A new revision that changed nothing of the slot costs one read of the record
// and no secret; the answer keeps its tag.
func TestSuspectButSame(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	before := mustResolve(t, r, 0)
	w.with(func() { w.revision++ })
	r.heard(otherMessage(w.revision), r.clock.now())
	after := mustResolve(t, r, 0)
	if after.ETag != before.ETag || w.reads.Load() != 2 || w.secretReads.Load() != 1 {
		t.Errorf("same tag %v, %d reads, %d secret reads", after.ETag == before.ETag, w.reads.Load(), w.secretReads.Load())
	}
	if a := mustResolve(t, r, w.revision); a.Source != FromMemory {
		t.Errorf("the renewed entry was not served from memory but from %s", a.Source)
	}
}

func TestDatabaseWentBack(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	revision := w.set("two", "secret-two")
	wantBucket(t, mustResolve(t, r, 0), "two")
	w.set("three", "secret-three")
	w.with(func() { w.revision = revision - 5 }) // a failover lost commits
	r.heard(message(revision+1), r.clock.now())
	wantBucket(t, mustResolve(t, r, 0), "three")
	if r.Stats.WentBack.Load() != 1 {
		t.Errorf("counted %d times", r.Stats.WentBack.Load())
	}
	if a := mustResolve(t, r, 0); a.Source != FromMemory {
		t.Errorf("after the reset answers still come from %s", a.Source)
	}
}

func TestStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, func(o *Options) { o.TTL, o.MaxStale = time.Minute, time.Hour })
		mustResolve(t, r, 0)
		w.with(func() { w.down = true })
		time.Sleep(59 * time.Second)
		if a := mustResolve(t, r, 0); a.Stale {
			t.Error("stale within its time")
		}
		time.Sleep(2 * time.Second)
		a := mustResolve(t, r, 0)
		wantBucket(t, a, "one")
		if !a.Stale || a.Age != 61*time.Second {
			t.Errorf("stale %v, age %v", a.Stale, a.Age)
		}
		time.Sleep(58 * time.Minute)
		if a := mustResolve(t, r, 0); !a.Stale {
			t.Error("not stale after 59 minutes")
		}
		time.Sleep(2 * time.Minute)
		if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("past max_stale: %v", err)
		}
		w.with(func() { w.down = false })
		time.Sleep(time.Second)
		if a := mustResolve(t, r, 0); a.Stale || a.Source != FromDatabase {
			t.Errorf("back: stale %v from %s", a.Stale, a.Source)
		}
	})
}

func TestKnownChangedIsNeverStale(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	mustResolve(t, r, 0)
	w.with(func() { w.down = true })
	// Another slot's change makes this one suspect only: it is served.
	r.heard(otherMessage(20), r.clock.now())
	if a := mustResolve(t, r, 0); !a.Stale {
		t.Error("a suspect answer is not marked stale")
	}
	r.heard(message(21), r.clock.now())
	if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("what is known to have changed was served: %v", err)
	}
}

func TestClearAnswersTakeEffectAtOnce(t *testing.T) {
	cases := []struct {
		name string
		edit func(*world)
		want fault.Code
	}{
		{"suspended", func(w *world) { w.status = connector.StatusSuspended }, fault.TenantSuspended},
		{"gone", func(w *world) { w.status = connector.StatusMissing }, fault.NotFound},
		{"no default any more", func(w *world) { w.none = true }, fault.NoDefaultConnector},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			r := newResolver(t, w, nil)
			mustResolve(t, r, 0)
			w.with(func() { c.edit(w); w.revision++ })
			r.heard(message(w.revision), r.clock.now())
			for range 2 { // read, then remembered
				if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != c.want {
					t.Errorf("got %v, want %s", err, c.want)
				}
			}
			if w.reads.Load() != 2 {
				t.Errorf("%d reads", w.reads.Load())
			}
		})
	}
}

func TestNegativeAnswersAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.none = true
		r := newResolver(t, w, nil)
		for range 3 {
			if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.NoDefaultConnector {
				t.Fatal(err)
			}
		}
		if w.reads.Load() != 1 {
			t.Errorf("%d reads", w.reads.Load())
		}
		w.with(func() { w.none = false })
		time.Sleep(11 * time.Second)
		mustResolve(t, r, 0)
	})
}

// Vault refusing a token is a fault: nothing held is dropped, nothing is cached
// as an answer.
func TestVaultFaultDropsNothing(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	mustResolve(t, r, 0)
	w.with(func() {
		w.vaultDown = fault.New(fault.Unavailable, "vault answered 403")
		w.revision++
	})
	r.heard(otherMessage(w.revision), r.clock.now())
	r.pins.InvalidateAll() // nor does it lean on that memory
	if a := mustResolve(t, r, 0); a.Stale || a.Source != FromDatabase {
		t.Error("an unchanged record needs no Vault")
	}
	// A new pin can't be read: the old answer is known to be wrong.
	revision := w.set("two", "secret-two")
	r.heard(message(revision), r.clock.now())
	if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("got %v", err)
	}
	w.with(func() { w.vaultDown = nil })
	wantBucket(t, mustResolve(t, r, 0), "two")
}

// The database told of a new pin, no message did, and Vault is away: the old
// secret must not come back as "stale".
func TestChangedPinWithoutMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := newResolver(t, w, nil)
		mustResolve(t, r, 0)
		w.set("two", "secret-two")
		w.with(func() { w.vaultDown = fault.New(fault.Unavailable, "vault is sealed") })
		time.Sleep(61 * time.Second)
		if a, err := r.Resolve(t.Context(), slot, 0); err == nil {
			b, _ := config(t, a)
			t.Errorf("served %q", b)
		}
	})
}

func TestErrorsAreNotCached(t *testing.T) {
	w := newWorld()
	w.down = true
	r := newResolver(t, w, nil)
	if _, err := r.Resolve(t.Context(), slot, 0); fault.CodeOf(err) != fault.Unavailable {
		t.Fatal(err)
	}
	w.with(func() { w.down = false })
	mustResolve(t, r, 0)
}

func TestResolveAll(t *testing.T) {
	w := newWorld()
	r := newResolver(t, w, nil)
	set, err := r.ResolveAll(t.Context(), Slot{Tenant: acme, Organization: acmeHQ}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(set.Answers) != 1 || len(set.Errors) != 0 || set.Answers[providers.Storage].Body.Len() == 0 {
		t.Errorf("answers %d, errors %v", len(set.Answers), set.Errors)
	}
	if n := len(r.o.Kinds.Categories()) - 1; len(set.Negative) != n || set.Negative[0].Revision != set.Revision {
		t.Errorf("%d of %d negative parts tell of themselves: %+v", len(set.Negative), n, set.Negative)
	}
	w.with(func() { w.status = connector.StatusSuspended; w.revision++ })
	r.heard(connector.Message{Tenant: acme, Revision: w.revision, Status: true}, r.clock.now())
	set, err = r.ResolveAll(t.Context(), Slot{Tenant: acme, Organization: acmeHQ}, 0)
	if fault.CodeOf(err) != fault.TenantSuspended || len(set.Negative) != 1 || set.Negative[0].Revision != w.revision {
		t.Errorf("got %+v %v", set.Negative, err)
	}
}

func TestCallerLeaves(t *testing.T) {
	w := newWorld()
	w.hold, w.reading = make(chan struct{}), make(chan struct{}, 4)
	r := newResolver(t, w, nil)
	ctx, cancel := context.WithCancel(context.Background())
	left := make(chan error, 1)
	go func() {
		_, err := r.Resolve(ctx, slot, 0)
		left <- err
	}()
	<-w.reading
	stays := make(chan error, 1)
	go func() {
		_, err := r.Resolve(context.Background(), slot, 0)
		stays <- err
	}()
	cancel()
	if err := <-left; fault.CodeOf(err) != fault.DeadlineExceeded {
		t.Errorf("who left got %v", err)
	}
	close(w.hold)
	if err := <-stays; err != nil {
		t.Errorf("who stayed got %v", err)
	}
}

// A draft has an id that an app may have seen. That it can't be used is an answer,
// not an outage.
func TestADraftIsAnAnswer(t *testing.T) {
	w := newWorld()
	w.draft = true
	r := newResolver(t, w, nil)
	for range 3 {
		a, err := r.Connector(t.Context(), ByID{Tenant: acme, Organization: acmeHQ, Connector: theID}, 0)
		if fault.CodeOf(err) != fault.Inactive || a.Revision == 0 {
			t.Fatalf("%+v %v", a, err)
		}
	}
	if n := w.reads.Load(); n != 1 {
		t.Errorf("%d reads", n)
	}
}
