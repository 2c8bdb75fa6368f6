package oauth

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
)

// soak asks for the long form of tests: the fleet's is 20 lifetimes of 5 s.
const soak = "PATCHBAY_SOAK"

// lifetimes is how long a fleet is watched.
func lifetimes(n int, life time.Duration) (int, time.Duration) {
	if os.Getenv(soak) != "" {
		return 20, 5 * time.Second
	}
	return n, life
}

// callers ask each manager for its token again and again until stop, and check each
// answer by the issuer's clock. An error ends the test unless may allows it.
type callers struct {
	answers, errors atomic.Int64
	stop            func()
}

func (w *world) callers(ms []*Manager, i *issuer, may func(error) bool) *callers {
	ctx, cancel := context.WithCancel(context.Background())
	c := &callers{}
	var all sync.WaitGroup
	ref, app := w.ref, w.app
	for _, m := range ms {
		all.Go(func() {
			for sleep(ctx, 50*time.Millisecond+jittered(100*time.Millisecond)) {
				begun := time.Now()
				bounded, cancel := context.WithTimeout(ctx, 5*time.Second)
				tok, err := m.Source(ref, app).Token(bounded)
				cancel()
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					c.errors.Add(1)
					if may == nil || !may(err) {
						w.Errorf("a caller got %v", err)
						return
					}
					continue
				}
				c.answers.Add(1)
				i.mu.Lock()
				end := i.ends[tok.Access.Reveal()]
				i.mu.Unlock()
				if !begun.Before(end) || tok.ExpiresAt.After(end) {
					w.Errorf("a token that ended %v ago was served, as one of %v more", begun.Sub(end), time.Until(tok.ExpiresAt))
					return
				}
			}
		})
	}
	c.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	w.Cleanup(c.stop)
	return c
}

// once checks that the issuer was asked once per token, and each at its time.
func (w *world) once(i *issuer, first int64, watched time.Duration) {
	w.Helper()
	i.mu.Lock()
	issued := i.issued
	i.mu.Unlock()
	n := int64(len(issued))
	if i.invalid.Load() != 0 || i.posts.Load() != n+1 { // and the consent
		w.Errorf("%d requests for %d tokens, %d refused", i.posts.Load(), n, i.invalid.Load())
	}
	// The last may still be on its way.
	eventually(w, "a version for each refresh is stored", 5*time.Second, func() bool { return w.stored().Version == first+n })
	life := i.life - allowance(i.life)
	for k := 1; k < len(issued); k++ {
		if gap := issued[k].Sub(issued[k-1]); gap < time.Duration(float64(life)*renewFrom)-50*time.Millisecond {
			w.Errorf("refresh %d came %v after the one before", k, gap)
		}
	}
	if least := int64(watched / i.life); n < least {
		w.Errorf("%d refreshes in %d lifetimes", n, least)
	}
	w.Logf("%d refreshes in %v, life %v", n, watched, i.life)
}

// Must show 3: one refresh per lifetime, whoever is there.
func TestAFleetRefreshesOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		processes int
		redis     bool
	}{"with Redis": {200, true}, "without Redis": {50, false}} {
		t.Run(name, func(t *testing.T) {
			n, life := lifetimes(3, 3*time.Second)
			i := newIssuer(t, life, true)
			w, p := newRealWorld(t, testenv.Postgres(t), testenv.Vault(t), i.app())
			cache := shared(t, testenv.Redis(t))
			client := cache()
			var ms []*Manager
			for k := range tc.processes {
				if k%20 == 0 {
					client = cache()
					w.lease = &flakyLease{Lease: p.postgres(t, p.SidecarURL, 4)}
					w.grants = &flakyGrants{GrantStore: p.vault(t)}
				}
				ms = append(ms, w.manager(func(o *Options) {
					if tc.redis {
						o.Cache, o.CacheKey = client, fixedKey("k", 1)
					}
				}))
			}
			w.consent(ms[0], i)
			first := w.ref.GrantVersion
			begun := time.Now()
			c := w.callers(ms, i, nil)
			<-time.After(time.Duration(n) * life)
			c.stop()
			w.once(i, first, time.Since(begun))
			var hits, grants, waits int64
			for _, m := range ms {
				hits, grants, waits = hits+m.Stats.SharedHits.Load(), grants+m.Stats.GrantHits.Load(), waits+m.Stats.LeaseWaits.Load()
			}
			t.Logf("%d answers; %d tokens found in Redis, %d in Vault, %d waits for the lease", c.answers.Load(), hits, grants, waits)
			if tc.redis && hits == 0 || !tc.redis && grants == 0 {
				t.Error("nothing was shared")
			}
		})
	}
}

// Must show 4, the issuer: away for ten lifetimes. What is held is served to its end,
// then callers are told when to come back, and it comes back by itself.
func TestTheIssuerAwayForTenLifetimes(t *testing.T) {
	t.Parallel()
	_, life := lifetimes(0, time.Second)
	i := newIssuer(t, life, true)
	w := newWorld(t, i.app())
	cache := shared(t, testenv.Redis(t))
	var ms []*Manager
	for range 5 {
		ms = append(ms, w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k", 1) }))
	}
	w.consent(ms[0], i)
	w.ask(ms[0])
	var away atomic.Int64
	down := hook(answered(503, &away))
	i.before.Store(down)
	c := w.callers(ms, i, func(err error) bool {
		e, ok := errors.AsType[*providers.TokenError](err)
		return ok && (e.Code == providers.CodeTokenEndpointDown || e.Code == providers.CodeStorageDown) && fault.CodeOf(err) == fault.Unavailable && fault.RetryAfter(err) >= time.Second
	})
	<-time.After(10 * life)
	served := c.answers.Load()
	if served == 0 || c.errors.Load() == 0 {
		t.Errorf("%d answers and %d errors while the issuer was away", served, c.errors.Load())
	}
	// Five processes with a back-off of 1 to 2 s each, in one queue.
	if n := away.Load(); n < 2 || n > int64(10*life/time.Second)+12 {
		t.Errorf("the issuer was asked %d times in %v", n, 10*life)
	}
	if row := w.row(); row.Status != connector.GrantActive {
		t.Errorf("the grant was marked: %+v", row)
	}
	i.before.Store(nil)
	eventually(t, "every process has a token again", 20*time.Second, func() bool {
		for _, m := range ms {
			if tok, err := w.source(m).Token(t.Context()); err != nil || !i.good(tok.Access.Reveal()) {
				return false
			}
		}
		return true
	})
	c.stop()
	if i.invalid.Load() != 0 {
		t.Error("a refresh token was used twice")
	}
}
