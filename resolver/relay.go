package resolver

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
)

// The relay's times of DESIGN 6.
const (
	relayEvery = 250 * time.Millisecond
	passLimit  = 150 * time.Millisecond
	// A heartbeat speaks of rows committed 250 ms before it and comes up to
	// passLimit after the look at the unsent ones: the look must go that much
	// further.
	unsentAge    = 250*time.Millisecond - passLimit
	replayWindow = 10 * time.Minute
	keepSent     = 24 * time.Hour
	relayBatch   = 500
)

// Relay drains an outbox to the sidecars. Any number of relays work side by
// side on one outbox.
type Relay struct {
	outbox connector.Outbox
	out    Publisher
	log    *slog.Logger

	// What the last complete check found; see beat.
	identity string

	// Counters for metrics.
	Sent     atomic.Int64
	Replayed atomic.Int64
	Beats    atomic.Int64
	Failures atomic.Int64
}

// NewRelay returns a relay. Run does the work.
func NewRelay(outbox connector.Outbox, out Publisher, log *slog.Logger) *Relay {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Relay{outbox: outbox, out: out, log: log}
}

// Run relays until ctx ends, woken by commits of this process and every 250 ms.
func (r *Relay) Run(ctx context.Context) error {
	ticker := time.NewTicker(relayEvery)
	defer ticker.Stop()
	failing := false
	swept := time.Now()
	for {
		err := r.Drain(ctx)
		if err == nil {
			err = r.beat(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			r.Failures.Add(1)
			if !failing {
				r.log.Warn("the relay is interrupted", "error", err)
			}
			failing = true
			sleep(ctx, rand.N(relayEvery))
		case failing:
			r.log.Info("the relay works again")
			failing = false
		}
		if time.Since(swept) > time.Minute {
			swept = time.Now()
			if _, err := r.outbox.SweepOutbox(ctx, keepSent); err != nil {
				r.log.Warn("the outbox was not swept", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		case <-r.outbox.Committed():
		}
	}
}

// Drain sends what is unsent and not held by another relay. Errors: those of
// the outbox and the publisher.
func (r *Relay) Drain(ctx context.Context) error {
	for {
		n, err := r.outbox.Relay(ctx, relayBatch, func(ctx context.Context, ms []connector.Message) error {
			return r.out.Publish(ctx, ms)
		})
		r.Sent.Add(int64(n))
		if err != nil || n < relayBatch {
			return err
		}
	}
}

// beat makes the statement that a heartbeat is: every row committed more than
// 250 ms before it is in Redis and published. It is made only when what the
// server may have lost was sent again, no older row is unsent, and all that was
// found out fast enough to be still true.
func (r *Relay) beat(ctx context.Context) error {
	// The table's word first: a row that another relay marks as sent in between
	// is in the sentinel by then, and no sign of a loss.
	last, err := r.outbox.LastSent(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	s, err := r.out.State(ctx)
	if err != nil {
		return err
	}
	if s.Identity != r.identity || s.Sentinel < last {
		if err := r.replay(ctx); err != nil {
			return err
		}
		r.identity = s.Identity
		return nil // the pass took long; the next one may speak
	}
	unsent, err := r.outbox.Unsent(ctx, unsentAge)
	if err != nil || unsent || time.Since(began) >= passLimit {
		return err
	}
	ok, err := r.out.Heartbeat(ctx, s, passLimit)
	if err == nil && ok {
		r.Beats.Add(1)
	}
	return err // a refused one is found out by the next pass
}

// replay sends the rows of the last ten minutes again, to a server that may
// have lost them.
func (r *Relay) replay(ctx context.Context) error {
	after := int64(0)
	for {
		ms, err := r.outbox.Sent(ctx, replayWindow, after, relayBatch)
		if err != nil {
			return err
		}
		// Publish sets the sentinel even for an empty batch.
		if len(ms) == 0 {
			last, err := r.outbox.LastSent(ctx)
			if err != nil {
				return err
			}
			return r.out.Publish(ctx, []connector.Message{{ID: last}})
		}
		if err := r.out.Publish(ctx, ms); err != nil {
			return err
		}
		r.Replayed.Add(int64(len(ms)))
		after = ms[len(ms)-1].ID
	}
}
