package command

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/patchbay-dev/patchbay/httpapi"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// watch asks every dependency once a second, so that a probe never waits for
// one, and logs when one goes or comes back. One that has never answered is asked
// more often at first: readiness waits for it.
type watch struct {
	log  *slog.Logger
	deps []*watched
}

type watched struct {
	name  string
	check func(ctx context.Context) error

	mu     sync.Mutex
	ok     bool
	told   bool   // the log says that it does not answer
	detail string // the public sentence about why not
}

const (
	watchFirst   = 10 * time.Millisecond
	watchEvery   = time.Second
	watchTimeout = 2 * time.Second
	// watchGrace is how long a dependency that never answered may take before the
	// log says so: a login takes a moment, and is no incident.
	watchGrace = 500 * time.Millisecond
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
			began, seen, wait := time.Now(), false, watchFirst
			for {
				ok := w.look(ctx, d, seen || time.Since(began) >= watchGrace)
				seen = seen || ok
				if seen {
					wait = watchEvery
				}
				timer := time.NewTimer(wait)
				wait = min(2*wait, watchEvery)
				select {
				case <-ctx.Done():
					timer.Stop()
					return
				case <-timer.C:
				}
			}
		})
	}
	wg.Wait()
	return ctx.Err()
}

// look asks once and tells whether there was an answer.
func (w *watch) look(ctx context.Context, d *watched, tell bool) bool {
	asked, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	err := d.check(asked)
	if ctx.Err() != nil {
		return false // the process is leaving: that is no news of the dependency
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil && !d.told && tell:
		w.log.Warn("a dependency does not answer; trying on", "dependency", d.name, "error", err)
		d.told = true
	case err == nil && d.told:
		w.log.Info("a dependency answers again", "dependency", d.name)
		d.told = false
	}
	d.ok, d.detail = err == nil, fault.Message(err)
	return d.ok
}

// dependencies reports the last look at each.
func (w *watch) dependencies(required func(name string) bool) []httpapi.Dependency {
	out := make([]httpapi.Dependency, 0, len(w.deps))
	for _, d := range w.deps {
		d.mu.Lock()
		dep := httpapi.Dependency{Name: d.name, OK: d.ok, Required: required(d.name), Detail: d.detail}
		d.mu.Unlock()
		if !dep.OK && dep.Detail == "" {
			dep.Detail = "does not answer"
		}
		out = append(out, dep)
	}
	return out
}
