package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

// host stands in for the test that testenv asks for: it is a testing.TB with
// just the methods that are called outside a test. A failure is a panic that
// run turns into an error; only run's own goroutine may cause one.
type host struct {
	testing.TB // nil: gives the interface's unexported method, and nothing else
	ctx        context.Context
	dir        string
	cleanups   []func()
}

// failure is what a host panics with.
type failure struct{ err error }

// run calls f with a host and undoes everything that f set up.
func run(ctx context.Context, f func(h *host)) error {
	dir, err := os.MkdirTemp("", "patchbay-bench-")
	if err != nil {
		return err
	}
	h := &host{ctx: ctx, dir: dir}
	defer func() {
		testenv.Stop()
		_ = os.RemoveAll(dir) // a temporary folder
	}()
	return h.part(func() { f(h) })
}

// part calls f, undoes what f set up and returns how f failed: one stage's
// failure leaves the others' figures.
func (h *host) part(f func()) (err error) {
	outer := h.cleanups
	h.cleanups = nil
	defer func() {
		p := recover()
		for _, c := range slices.Backward(h.cleanups) {
			c()
		}
		h.cleanups = outer
		if f, ok := p.(failure); ok {
			err = f.err
		} else if p != nil {
			panic(p)
		}
	}()
	f()
	return nil
}

func (h *host) Helper()                  {}
func (h *host) Cleanup(f func())         { h.cleanups = append(h.cleanups, f) }
func (h *host) Context() context.Context { return h.ctx }
func (h *host) TempDir() string          { return h.dir }
func (h *host) Fatal(args ...any) {
	panic(failure{errors.New(strings.TrimSpace(fmt.Sprintln(args...)))})
}
func (h *host) Fatalf(format string, args ...any) {
	panic(failure{fmt.Errorf(format, args...)})
}

// Skipf fails: a benchmark without its server has nothing to say.
func (h *host) Skipf(format string, args ...any) { h.Fatalf(format, args...) }

// must ends the run on an error.
func (h *host) must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func (h *host) file(name, content string) string {
	path := filepath.Join(h.dir, name)
	h.must(os.WriteFile(path, []byte(content), 0o600))
	return path
}

// build builds a package of this module as it is released: static, stripped.
func (h *host) build(name, pkg string) string {
	out := filepath.Join(h.dir, name)
	cmd := exec.CommandContext(h.ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "github.com/patchbay-dev/patchbay/"+pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		h.Fatalf("build %s: %w\n%s", pkg, err, text)
	}
	return out
}
