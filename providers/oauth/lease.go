package oauth

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
)

// lease is the right to refresh a grant, kept alive until it is released.
type lease struct {
	m     *Manager
	ref   connector.GrantRef
	owner string
	epoch int64
	until atomic.Int64 // Unix ns of our clock, counted from before it was asked for
	lost  atomic.Bool

	cancel context.CancelFunc
	done   chan struct{}
}

// hold keeps an acquired lease alive. begun is from before the request for it.
func (m *Manager) hold(ref connector.GrantRef, owner string, epoch int64, begun time.Time) *lease {
	// Not the Manager's context: while Close waits for an answer to be stored, the
	// lease is what keeps others from using the replaced refresh token.
	ctx, cancel := context.WithCancel(context.Background())
	l := &lease{m: m, ref: ref, owner: owner, epoch: epoch, cancel: cancel, done: make(chan struct{})}
	l.until.Store(begun.Add(m.lease).UnixNano())
	go l.keep(ctx)
	return l
}

func (l *lease) keep(ctx context.Context) {
	defer close(l.done)
	for sleep(ctx, l.m.lease/3) {
		begun := l.m.now()
		bounded, cancel := context.WithTimeout(ctx, min(leaseTimeout, l.m.lease/3))
		held, err := l.m.o.Lease.RenewGrant(bounded, l.ref.Tenant, l.ref.Connector, l.owner, l.epoch, l.m.lease)
		cancel()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.m.Stats.LeaseFaults.Add(1) // it may come back before the end
		case !held:
			l.lost.Store(true)
			return
		default:
			l.until.Store(begun.Add(l.m.lease).UnixNano())
		}
	}
}

// lasts tells whether nobody else can have the lease before d is over.
func (l *lease) lasts(d time.Duration) bool {
	return !l.lost.Load() && l.m.now().Add(d).UnixNano() < l.until.Load()
}

// release gives the lease back. A nil lease is none.
func (l *lease) release() {
	if l == nil {
		return
	}
	l.cancel()
	<-l.done
	if l.lost.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaseTimeout)
	defer cancel()
	if l.m.o.Lease.ReleaseGrant(ctx, l.ref.Tenant, l.ref.Connector, l.owner, l.epoch) != nil {
		l.m.Stats.LeaseFaults.Add(1) // it runs out
	}
}
