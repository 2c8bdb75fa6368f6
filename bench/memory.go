package main

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// memory measures what hot tenants cost a sidecar: answers, pins, tenant
// states and verified tokens together.
func (w *world) memory(r *report, o options) {
	p := w.serve(0)
	p.connected()
	idle := p.settled(w.ctx)

	tokens := make([]string, o.tenants)
	for i := range tokens {
		tokens[i] = w.token(i)
	}
	w.pass(p, tokens)
	loaded := p.resident()
	fromMemory := w.pass(p, tokens)

	// Hot means that they go on asking: a slow round of all of them does.
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, _, _, _ = get(ctx, slotURL(p, i), tokens[i/2%len(tokens)]) // the count below shows what was lost
			sleep(ctx, time.Millisecond)
		}
	})
	// Nobody can ask another process for a collection, but its scrapes make the
	// garbage that brings one about.
	gcs := p.metrics()["go_gc_duration_seconds_count"]
	w.eventually("two collections", func() bool { return p.metrics()["go_gc_duration_seconds_count"] >= gcs+2 })
	after := p.settled(w.ctx)
	m := p.metrics()
	cancel()
	wg.Wait()
	still := w.pass(p, tokens)
	p.stop()

	over := after.all - idle.all
	mib := func(name string) float64 { return m[name] / (1 << 20) }
	r.find(idle.all <= 40, "idle sidecar, resident", "<= 40 MiB", "%.1f MiB (%.1f of it not the program's file)", idle.all, idle.anonymous)
	r.find(over <= 64 && fromMemory == 2*o.tenants && still == 2*o.tenants, fmt.Sprintf("%d hot tenants x 2 connectors, resident over idle", o.tenants),
		"<= 64 MiB", "%.1f MiB (%.1f KiB a tenant)", over, over*1024/float64(o.tenants))
	r.table("Memory of hot tenants", `
Resident memory as the kernel counts it (VmRSS), of a sidecar on real servers that listens for changes. Each tenant has a token of
its own and two defaults (s3 with two secrets, smtp with one). Idle is before the first request; then every slot is asked for
twice, the second time all from memory, and rounds go on while /metrics is scraped until two collections have run and the
resident size stands still.`,
		[]string{"", "value"}, [][]string{
			{"idle, MiB", fmt.Sprintf("%.1f", idle.all)},
			{"all slots asked for once, before a collection, MiB", fmt.Sprintf("%.1f", loaded.all)},
			{"after collections, MiB", fmt.Sprintf("%.1f", after.all)},
			{"slots answered from memory in the second round, and at the end", fmt.Sprintf("%d and %d of %d", fromMemory, still, 2*o.tenants)},
			{"Go heap in use / allocated / next collection at, MiB", fmt.Sprintf("%.1f / %.1f / %.1f", mib("go_memstats_heap_inuse_bytes"), mib("go_memstats_heap_alloc_bytes"), mib("go_memstats_next_gc_bytes"))},
			{"Go heap idle, of it returned to the system, MiB", fmt.Sprintf("%.1f / %.1f", mib("go_memstats_heap_idle_bytes"), mib("go_memstats_heap_released_bytes"))},
			{"stacks / collector's own, MiB", fmt.Sprintf("%.1f / %.1f", mib("go_memstats_stack_inuse_bytes"), mib("go_memstats_gc_sys_bytes"))},
		})
}

func slotURL(p *process, i int) string {
	return "http://" + p.addr + "/v1/resolve/" + [...]string{"storage", "email"}[i%2]
}

// pass asks for both slots of every tenant and returns how many answers came
// from memory.
func (w *world) pass(p *process, tokens []string) int {
	var hits atomic.Int64
	g, ctx := errgroup.WithContext(w.ctx)
	g.SetLimit(16)
	for i := range 2 * len(tokens) {
		g.Go(func() error {
			code, header, body, err := get(ctx, slotURL(p, i), tokens[i/2])
			if err == nil && code != 200 {
				err = fmt.Errorf("slot %d: %d %s", i, code, body)
			}
			if err == nil && header.Get("X-Patchbay-Source") == "memory" {
				hits.Add(1)
			}
			return err
		})
	}
	w.must(g.Wait())
	return int(hits.Load())
}

// settled waits until the resident size has stood still for some seconds, a
// minute at most, and returns it.
func (p *process) settled(ctx context.Context) residency {
	const still, slack = 8, 0.25 // seconds, MiB
	last, since := p.resident(), 0
	for range 60 {
		sleep(ctx, time.Second)
		now := p.resident()
		if since++; now.all < last.all-slack || now.all > last.all+slack {
			last, since = now, 0
		}
		if since == still {
			break
		}
	}
	return p.resident()
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
