package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/httpapi"
)

// watch asks every dependency once a second, so that a probe never waits for
// one, and logs when one goes or comes back.
type watch struct {
	log  *slog.Logger
	deps []*watched
}

type watched struct {
	name  string
	check func(ctx context.Context) error

	mu    sync.Mutex
	known bool
	ok    bool
}

const (
	watchEvery   = time.Second
	watchTimeout = 2 * time.Second
)

func newWatch(log *slog.Logger) *watch { return &watch{log: log} }

func (w *watch) add(name string, check func(ctx context.Context) error) {
	w.deps = append(w.deps, &watched{name: name, check: check})
}

// run checks until ctx ends; one slow dependency does not delay the others.
func (w *watch) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, d := range w.deps {
		wg.Go(func() {
			ticker := time.NewTicker(watchEvery)
			defer ticker.Stop()
			for {
				w.look(ctx, d)
				select {
				case <-ctx.Done():
					return
				case <-ticker.C:
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

func (w *watch) look(ctx context.Context, d *watched) {
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	err := d.check(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil && (d.ok || !d.known) && ctx.Err() != context.Canceled:
		w.log.Warn("a dependency does not answer; trying on", "dependency", d.name, "error", err)
	case err == nil && d.known && !d.ok:
		w.log.Info("a dependency answers again", "dependency", d.name)
	}
	d.known, d.ok = true, err == nil
}

// dependencies reports the last look at each.
func (w *watch) dependencies(required func(name string) bool) []httpapi.Dependency {
	out := make([]httpapi.Dependency, 0, len(w.deps))
	for _, d := range w.deps {
		d.mu.Lock()
		dep := httpapi.Dependency{Name: d.name, OK: d.ok, Required: required(d.name)}
		d.mu.Unlock()
		if !dep.OK {
			dep.Detail = "does not answer"
		}
		out = append(out, dep)
	}
	return out
}
