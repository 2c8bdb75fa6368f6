package main

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/httpapi"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/vault"
)

// plane is the data plane inside this process, for what only its own process
// can see.
type plane struct {
	store    *postgres.Store
	secrets  *vault.Client
	resolver *resolver.Resolver
	local    *httpapi.Local
	handler  fasthttp.RequestHandler
}

func (w *world) plane() *plane {
	store, err := postgres.Open(w.ctx, postgres.Options{URL: secret.New(w.db.sidecar)})
	w.must(err)
	w.Cleanup(func() { _ = store.Close() }) // the process ends
	secrets, err := vault.Open(w.ctx, vault.Options{Address: w.vault.Addr, Mount: w.mount, Auth: vault.Auth{
		Method: vault.AuthAppRole, MountPath: w.reader.Mount, RoleID: w.reader.RoleID, SecretIDFile: w.file("reader", w.reader.SecretID)}})
	w.must(err)
	w.Cleanup(func() { _ = secrets.Close() }) // as store
	w.eventually("logged in to Vault", func() bool { return secrets.Ready(w.ctx) == nil })
	kinds, err := builtin.Registry()
	w.must(err)
	answers, err := resolver.New(resolver.Options{Database: store, Secrets: secrets, Kinds: kinds})
	w.must(err)
	local, err := httpapi.NewLocal(httpapi.LocalOptions{Verifier: w.kit.Verifier, Resolver: answers, Categories: kinds,
		Log: obs.NewLogger(io.Discard, "info"), Registry: obs.NewRegistry()})
	w.must(err)
	return &plane{store, secrets, answers, local, local.Handler()}
}

// allocations counts what a hit costs in our code: the handler's allocations
// beyond those of a bare Fiber handler with the same bytes, and locks that two
// hits at once wait for.
func (w *world) allocations(r *report, _ options) {
	ours := w.plane().handler
	token := w.token(1)
	request := func() *fasthttp.RequestCtx {
		var q fasthttp.Request
		q.SetRequestURI("/v1/resolve/storage")
		q.Header.SetHost("localhost:7411")
		q.Header.Set("Authorization", "Bearer "+token)
		ctx := new(fasthttp.RequestCtx)
		ctx.Init(&q, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil)
		return ctx
	}
	first := request()
	ours(first)
	if first.Response.StatusCode() != fiber.StatusOK {
		w.Fatalf("%d %s", first.Response.StatusCode(), first.Response.Body())
	}
	body := append([]byte(nil), first.Response.Body()...)
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Get("/v1/resolve/:category", func(c *fiber.Ctx) error {
		c.Response().Header.SetContentType(fiber.MIMEApplicationJSON)
		c.Response().SetBodyRaw(body)
		return nil
	})
	const runs = 20_000
	count := func(h fasthttp.RequestHandler) float64 {
		ctx := request()
		return testing.AllocsPerRun(runs, func() { ctx.Response.Reset(); h(ctx) })
	}
	a, b := count(ours), count(app.Handler())
	waits := contended(request, ours)
	r.find(a <= b, "memory hit, allocations in our code", "0", "%.0f (%.0f with Fiber's own, which are %.0f)", a-b, a, b)
	r.find(waits == 0, "memory hit, waits for a lock", "0", "%d", waits)
	r.table("Allocations and locks of a memory hit", fmt.Sprintf(`
The API's handler with a real verifier, resolver, store and Vault client, called without a network: allocations per call over
%d calls, less those of a bare Fiber handler. Locks: %d goroutines call it %d times each with the runtime's mutex profile taking
every event; counted are waits below our handler.`, runs, lockers, lockerCalls), nil, nil)
}

const lockers, lockerCalls = 16, 20_000

// contended counts the times that concurrent hits waited for one another.
func contended(request func() *fasthttp.RequestCtx, h fasthttp.RequestHandler) int64 {
	before := runtime.SetMutexProfileFraction(1)
	defer runtime.SetMutexProfileFraction(before)
	var wg sync.WaitGroup
	for range lockers {
		wg.Go(func() {
			ctx := request()
			for range lockerCalls {
				ctx.Response.Reset()
				h(ctx)
			}
		})
	}
	wg.Wait()
	records := make([]runtime.BlockProfileRecord, 1024)
	n, _ := runtime.MutexProfile(records)
	var waits int64
	for _, rec := range records[:min(n, len(records))] {
		frames := runtime.CallersFrames(rec.Stack())
		for {
			f, more := frames.Next()
			if strings.Contains(f.Function, "httpapi.(*Local).serve") {
				waits += rec.Count
				break
			}
			if !more {
				break
			}
		}
	}
	return waits
}
