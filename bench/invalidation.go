package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/resolver/rediscache"
	"github.com/patchbay-dev/patchbay/tenant"
)

// askEvery is how often a sidecar is asked whether it has heard: what the
// figures are too high by, at most.
const askEvery = 5 * time.Millisecond

// invalidation measures from a commit to each sidecar's first new answer. The
// sidecars are resolvers with a Redis connection and a subscription each, in
// this process: a thousand programs would measure the machine.
func (w *world) invalidation(r *report, o options) {
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var jobs sync.WaitGroup
	defer jobs.Wait()
	defer cancel()
	log := slog.New(slog.DiscardHandler)
	kinds, err := builtin.Registry()
	w.must(err)
	base := w.plane() // its store and its Vault login serve all
	redis := func() *rediscache.Client {
		c, err := rediscache.Open(rediscache.Options{URL: secret.New(w.redis.URL())})
		w.must(err)
		w.Cleanup(func() { _ = c.Close() }) // the process ends
		return c
	}
	// The writer is a control plane: its commits kick its relay.
	store, err := postgres.Open(ctx, postgres.Options{URL: secret.New(w.db.admin)})
	w.must(err)
	w.Cleanup(func() { _ = store.Close() }) // as redis
	relay := resolver.NewRelay(store, redis().NewPublisher(), log)
	jobs.Go(func() { _ = relay.Run(ctx) }) // ends with ctx

	fleet := make([]*resolver.Resolver, o.sidecars)
	for i := range fleet {
		c := redis()
		fleet[i], err = resolver.New(resolver.Options{Database: base.store, Secrets: base.secrets, Shared: c, Kinds: kinds, Log: log})
		w.must(err)
		jobs.Go(func() { _ = fleet[i].Listen(ctx, c) }) // ends with ctx
		jobs.Go(func() { _ = fleet[i].Keep(ctx) })      // ditto
	}
	const changed = 3 // the tenant
	id, err := connector.ParseID(connectorID(2 * changed))
	w.must(err)
	slot := resolver.Slot{Tenant: tenant.MustID(tenantName(changed)), Organization: tenant.MustOrganizationID(organization), Category: "storage"}
	// Each on its own: on a busy machine there may be no moment at which all are.
	var g errgroup.Group
	for _, s := range fleet {
		g.Go(func() error {
			for end := time.Now().Add(patience); time.Now().Before(end); sleep(ctx, askEvery) {
				if a, err := s.Resolve(ctx, slot, 0); err == nil && a.Source == resolver.FromMemory && s.Connected() {
					return nil
				}
			}
			return errors.New("a sidecar never connected")
		})
	}
	w.must(g.Wait())

	var took []float64 // milliseconds
	for n := range o.changes {
		sleep(ctx, time.Duration(rand.IntN(300))*time.Millisecond) // anywhere between two heartbeats
		change := connector.Change{Actor: "bench", Tenants: []tenant.ID{slot.Tenant}}
		revisions, err := store.Change(ctx, change, func(ctx context.Context, tx connector.Tx) error {
			return tx.Tenant(slot.Tenant).Update(ctx, id, int64(n+1), func(c *connector.Connector) error {
				p := c.Params["bucket"]
				p.Value = fmt.Sprintf("bucket-%d", n)
				c.Params["bucket"] = p
				return nil
			})
		})
		w.must(err)
		committed, revision := time.Now(), revisions[slot.Tenant]
		heard := make([]float64, len(fleet))
		var wg sync.WaitGroup
		for i, s := range fleet {
			wg.Go(func() {
				sleep(ctx, rand.N(askEvery))
				for ctx.Err() == nil && time.Since(committed) < patience {
					a, err := s.Resolve(ctx, slot, 0)
					if err == nil && a.Revision >= revision && !a.Stale {
						heard[i] = float64(time.Since(committed)) / float64(time.Millisecond)
						return
					}
					sleep(ctx, askEvery)
				}
			})
		}
		wg.Wait()
		for _, ms := range heard {
			if ms == 0 {
				w.Fatalf("a sidecar never heard of a change")
			}
		}
		took = append(took, heard...)
	}
	p99 := percentile(took, 99)
	r.find(p99 <= 250, fmt.Sprintf("a change reaches %d sidecars, p99 after the commit", o.sidecars), "<= 250 ms with 1,000", "%.0f ms (median %.0f, max %.0f)", p99, percentile(took, 50), percentile(took, 100))
	r.table("Invalidation", fmt.Sprintf(`
%d changes of one connector, each from the commit's return to the moment at which a sidecar serves the new answer, read again
from Redis or Postgres. Sidecars are resolvers in one process, each with its Redis connection and its subscription; they, the
relay, Redis and Postgres share the machine, and each is asked every %v, so the figures are upper bounds.`, o.changes, askEvery), nil, nil)
}
