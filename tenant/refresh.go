package tenant

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// refreshEvery bounds how long a key that its issuer withdrew stays good.
	refreshEvery = 5 * time.Minute
	// fileEvery is how soon a changed file is noticed. Files are read, not
	// watched: Kubernetes swaps symlinks, which file watchers miss.
	fileEvery = 5 * time.Second
	// unknownEvery is the least time between two refetches that unknown keys cause.
	unknownEvery = 30 * time.Second
	// backoffFirst and backoffMost bound the wait after a failed fetch.
	backoffFirst = 500 * time.Millisecond
	backoffMost  = time.Minute
)

// refresher keeps one issuer's keys current. Fetches happen in Run's goroutine
// for this issuer (or in Refresh) only, one at a time; callers of Verify do no
// more than leave a note in wake, so nothing that they send can make them wait.
type refresher struct {
	issuer   string
	src      source
	remote   bool
	nameless bool
	keys     keyHolder
	clock    func() time.Time
	log      *slog.Logger
	wake     chan struct{} // an unknown key was seen; capacity 1
	fetching sync.Mutex    // Run against Refresh

	state atomic.Pointer[refreshState]
}

// refreshState is what Ready reports, immutable.
type refreshState struct {
	fetched time.Time
	err     error
}

// unknownKid asks for a refetch, because of a kid that the set doesn't know or of
// a token without one that none of its keys has signed. It never blocks.
func (r *refresher) unknownKid() {
	if !r.remote {
		return
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// refresh fetches once and installs what it got; on an error what was there stays.
func (r *refresher) refresh(ctx context.Context) error {
	r.fetching.Lock()
	defer r.fetching.Unlock()
	keys, err := r.src.fetch(ctx)
	if ctx.Err() != nil && err != nil {
		return err
	}
	prev := r.state.Load()
	next := &refreshState{}
	if prev != nil {
		next.fetched = prev.fetched
	}
	if err != nil {
		next.err = err
		r.state.Store(next)
		// One line when it breaks, not one per retry.
		if prev == nil || prev.err == nil {
			r.log.Warn("the issuer's keys could not be read; the last good ones stay", "issuer", r.issuer, "error", err)
		}
		return fmt.Errorf("refresh keys of issuer %q: %w", r.issuer, err)
	}
	changed := r.keys.replace(keys, r.nameless)
	next.fetched = r.clock()
	r.state.Store(next)
	if changed || (prev != nil && prev.err != nil) {
		r.log.Info("the issuer's keys are loaded", "issuer", r.issuer, "keys", len(keys))
	}
	return nil
}

// run refreshes until ctx ends: at its start (remote sources only; files were
// read by NewVerifier), then on a jittered period, sooner after a failure, and
// once per unknownEvery when unknown kids are seen. A kid that shows up in the
// quiet time is not lost: its refetch runs at the end of it, so that a rotation
// right after a storm of made-up kids is still noticed.
func (r *refresher) run(ctx context.Context) {
	wait := time.Duration(0)
	if !r.remote {
		wait = fileEvery
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	quiet := time.NewTimer(0)
	<-quiet.C
	defer quiet.Stop()
	wake, failures := r.wake, 0
	for {
		onKid := false
		select {
		case <-ctx.Done():
			return
		case <-quiet.C:
			wake = r.wake
			continue
		case <-wake:
			onKid, wake = true, nil
			quiet.Reset(unknownEvery)
		case <-timer.C:
		}
		err := r.refresh(ctx)
		switch {
		case err == nil:
			failures = 0
		case onKid:
			// No back-off of its own: its retries would be the refetches that
			// unknownEvery forbids. The note goes back and waits for its turn.
			r.unknownKid()
			continue
		default:
			failures++
		}
		timer.Reset(r.next(failures))
	}
}

// next is the jittered wait before the next fetch; the jitter keeps a fleet
// that started together from asking together.
func (r *refresher) next(failures int) time.Duration {
	switch {
	case !r.remote:
		return fileEvery
	case failures == 0:
		return jitter(refreshEvery, 0.8, 1.2)
	default:
		d := backoffMost
		if failures < 8 {
			d = min(d, backoffFirst<<(failures-1))
		}
		return jitter(d, 0.5, 1)
	}
}

func jitter(d time.Duration, from, to float64) time.Duration {
	return time.Duration(float64(d) * (from + rand.Float64()*(to-from)))
}
