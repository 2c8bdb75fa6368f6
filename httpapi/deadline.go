package httpapi

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// lazyContext is a request's context: fasthttp's own ends only with the server.
// It costs nothing until somebody looks at it, so that a memory hit, which never
// does, allocates nothing. One that was looked at is never used again.
type lazyContext struct {
	at      time.Time
	touched atomic.Bool

	mu   sync.Mutex
	ctx  context.Context
	stop context.CancelFunc
}

// real makes the context that everything but handing it on needs.
func (l *lazyContext) real() context.Context {
	l.touched.Store(true)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		l.ctx, l.stop = context.WithDeadline(context.Background(), l.at)
	}
	return l.ctx
}

func (l *lazyContext) Deadline() (time.Time, bool) { return l.real().Deadline() }
func (l *lazyContext) Done() <-chan struct{}       { return l.real().Done() }
func (l *lazyContext) Err() error                  { return l.real().Err() }
func (l *lazyContext) Value(k any) any             { return l.real().Value(k) }

// end cancels the context and tells whether it may be used for another request.
// A callee that keeps a context past its return has looked at it by then: every
// way of deriving one does.
func (l *lazyContext) end() bool {
	if !l.touched.Load() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != nil {
		l.stop()
	}
	return false
}
