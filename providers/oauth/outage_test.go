package oauth

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
)

// fleet is some managers on real servers, with a shared cache.
func fleet(t testing.TB, i *issuer, pg *testenv.PostgresServer, v *testenv.VaultServer, redis *testenv.RedisServer, n int) (*world, []*Manager) {
	t.Helper()
	w, _ := newRealWorld(t, pg, v, i.app())
	cache := shared(t, redis)
	var ms []*Manager
	for range n {
		ms = append(ms, w.manager(func(o *Options) { o.Cache, o.CacheKey = cache(), fixedKey("k", 1) }))
	}
	w.consent(ms[0], i)
	return w, ms
}

// storageDown is what callers may be told while our own stores are away.
func storageDown(err error) bool {
	e, ok := errors.AsType[*providers.TokenError](err)
	return ok && e.Code == providers.CodeStorageDown && fault.CodeOf(err) == fault.Unavailable && fault.RetryAfter(err) >= time.Second ||
		fault.CodeOf(err) == fault.DeadlineExceeded
}

// back waits until every process serves a token that is not old.
func (w *world) back(ms []*Manager, i *issuer, old map[string]bool) {
	w.Helper()
	eventually(w, "every process has a token again", 30*time.Second, func() bool {
		for _, m := range ms {
			tok, err := w.source(m).Token(within(w, 5*time.Second))
			if err != nil || !i.good(tok.Access.Reveal()) || old[tok.Access.Reveal()] {
				return false
			}
		}
		return true
	})
}

func (i *issuer) known() map[string]bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := map[string]bool{}
	for t := range i.ends {
		all[t] = true
	}
	return all
}

// Must show 4, Redis: nobody notices.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, 3*time.Second, true)
	redis := testenv.NewRedis(t)
	w, ms := fleet(t, i, testenv.Postgres(t), testenv.Vault(t), redis, 10)
	first, begun := w.ref.GrantVersion, time.Now()
	c := w.callers(ms, i, nil)
	eventually(t, "a refresh", 10*time.Second, func() bool { return i.refreshed.Load() == 1 })
	redis.Kill()
	eventually(t, "two refreshes without Redis", 20*time.Second, func() bool { return i.refreshed.Load() == 3 })
	var hits int64
	for _, m := range ms {
		hits += m.Stats.SharedHits.Load()
	}
	redis.Start(t)
	eventually(t, "Redis is used again", 20*time.Second, func() bool {
		var now int64
		for _, m := range ms {
			now += m.Stats.SharedHits.Load()
		}
		return now > hits
	})
	c.stop()
	w.once(i, first, time.Since(begun)-i.life)
}

// Must show 4, Postgres: an issuer that replaces refresh tokens is left alone, what is
// held is served to its end, and it comes back by itself.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, 3*time.Second, true)
	pg := testenv.NewPostgres(t)
	w, ms := fleet(t, i, pg, testenv.Vault(t), testenv.Redis(t), 10)
	for _, m := range ms {
		w.ask(m)
	}
	var away atomic.Bool
	c := w.callers(ms, i, func(err error) bool { return away.Load() && storageDown(err) })
	eventually(t, "a refresh", 10*time.Second, func() bool { return i.refreshed.Load() == 1 })
	away.Store(true)
	pg.Kill()
	stopped := i.refreshed.Load()
	served := c.answers.Load()
	eventually(t, "callers are told", 20*time.Second, func() bool { return c.errors.Load() > 0 })
	if c.answers.Load() == served {
		t.Error("nothing was served that was held")
	}
	eventually(t, "every process has nothing left", 20*time.Second, func() bool {
		for _, m := range ms {
			if _, err := w.source(m).Token(within(t, 5*time.Second)); err == nil {
				return false
			}
		}
		return true
	})
	// One may have been at the issuer when Postgres went.
	if n := i.refreshed.Load(); n > stopped+1 {
		t.Errorf("%d refreshes without the lease", n-stopped)
	}
	old := i.known()
	pg.Start(t)
	w.back(ms, i, old)
	c.stop()
	if i.invalid.Load() != 0 || w.row().Status != connector.GrantActive {
		t.Errorf("%d refused", i.invalid.Load())
	}
}

// ... and one that keeps them is not left alone.
func TestPostgresAwayFromAKeepingIssuer(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, 3*time.Second, false)
	pg := testenv.NewPostgres(t)
	w, ms := fleet(t, i, pg, testenv.Vault(t), testenv.Redis(t), 10)
	for _, m := range ms {
		w.ask(m)
	}
	first, begun := w.ref.GrantVersion, time.Now()
	pg.Kill()
	c := w.callers(ms, i, nil)
	eventually(t, "three refreshes without Postgres", 30*time.Second, func() bool { return i.refreshed.Load() >= 3 })
	c.stop()
	// The claim in Redis stands in for the lease.
	w.once(i, first, time.Since(begun)-i.life)
	pg.Start(t)
	old := i.known()
	eventually(t, "the row knows the version again", 30*time.Second, func() bool {
		for _, m := range ms {
			_, _ = w.source(m).Token(within(t, 5*time.Second))
		}
		row, err := w.store.Grant(within(t, 5*time.Second), acme, w.id)
		return err == nil && row.Version > first && row.Version == w.stored().Version && len(i.known()) > len(old)
	})
}

// Vault away: as the issuer, and no refresh token is taken that can't be stored.
func TestVaultAway(t *testing.T) {
	t.Parallel()
	i := newIssuer(t, 3*time.Second, true)
	v := testenv.NewVault(t)
	w, ms := fleet(t, i, testenv.Postgres(t), v, testenv.Redis(t), 5)
	for _, m := range ms {
		w.ask(m)
	}
	var away atomic.Bool
	c := w.callers(ms, i, func(err error) bool { return away.Load() && storageDown(err) })
	eventually(t, "a refresh", 10*time.Second, func() bool { return i.refreshed.Load() == 1 })
	away.Store(true)
	v.Kill()
	stopped := i.refreshed.Load()
	eventually(t, "callers are told", 20*time.Second, func() bool { return c.errors.Load() > 0 })
	if n := i.refreshed.Load(); n > stopped+1 {
		t.Errorf("%d refreshes that could not be stored", n-stopped)
	}
	old := i.known()
	v.Start(t)
	w.back(ms, i, old)
	c.stop()
	if i.invalid.Load() != 0 || w.row().Status != connector.GrantActive {
		t.Errorf("%d refused", i.invalid.Load())
	}
}
