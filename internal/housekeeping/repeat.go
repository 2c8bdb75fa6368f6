package housekeeping

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// passes is how a job's passes follow each other.
type passes struct {
	first    time.Duration // before the first pass
	every    time.Duration // between passes on average; each pause is within half of it
	failures *atomic.Int64 // counts passes that did not reach their end
	log      *slog.Logger
	job      string // its name in the log
}

// repeat makes passes until ctx ends, whose error it returns. A pass that fails is
// logged, counted, and followed by the next one as any other.
func (p passes) repeat(ctx context.Context, pass func(context.Context) error) error {
	wait := p.first
	for {
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		if err := pass(ctx); err != nil && ctx.Err() == nil {
			p.failures.Add(1)
			p.log.Warn("a pass did not reach its end; the next one goes on", "job", p.job, "error", err)
		}
		wait = p.every/2 + rand.N(p.every)
	}
}

// sleep waits for d, or until ctx ends, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
