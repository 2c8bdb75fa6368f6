package e2e

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// short times, so that every stage of an outage is reached in seconds.
const shortCache = "{ttl: 1s, negative_ttl: 1s, max_stale: 12s}"

// shortDeadline is the default: what can't be answered costs a caller no more.
const shortDeadline = "PATCHBAY_LOCAL_DEADLINE=2s"

// outage is a way to take a server away and give it back.
type outage struct{ down, back func() }

type server interface {
	Kill()
	Start(testing.TB)
	Pause()
	Resume()
}

var outages = map[string]func(testing.TB, server) outage{
	"killed": func(t testing.TB, s server) outage { return outage{s.Kill, func() { s.Start(t) }} },
	// Behind a network that drops packets: connections stay open.
	"frozen": func(_ testing.TB, s server) outage { return outage{s.Pause, s.Resume} },
}

// Redis gone costs latency only. With Postgres and Vault gone too, memory
// answers: stale once past its time, never past max_stale. All back: fresh again
// without a restart.
func TestOutageOfEverything(t *testing.T) {
	t.Parallel()
	for name, way := range outages {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const ttl, maxStale = time.Second, 12 * time.Second // as in shortCache
			f := newFleet(t, options{private: true, cache: shortCache})
			f.control()
			p := f.newPair("initech")
			cold := f.newPair("umbrella")
			s := f.serve(shortDeadline)
			s.get("/v1/resolve/storage", p.token)
			if a := s.get("/v1/resolve/email", p.token); a.code != http.StatusNotFound {
				t.Fatalf("%d %s", a.code, a.body)
			}
			w := p.watch(2, []int{http.StatusServiceUnavailable, http.StatusGatewayTimeout}, s)

			// Without Redis: fresh answers, also of what changes meanwhile, for one
			// statement a second.
			redis := way(t, f.redis)
			redis.down()
			down, statements := time.Now(), s.metric("patchbay_revision_reads_total")
			committed := p.write(1)
			for time.Since(down) < 3*ttl { // memory alone would have ended
				asked := time.Now()
				a := s.get("/v1/resolve/storage", p.token)
				if a.code != http.StatusOK || a.Stale {
					t.Fatalf("without Redis: %d %s", a.code, a.body)
				}
				if n, err := number(a); err != nil || n == 0 && asked.Sub(committed) > ttl {
					t.Fatalf("without Redis, %s after the commit of 1: %s %v", asked.Sub(committed), a.body, err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			if n := s.metric("patchbay_revision_reads_total") - statements; n > time.Since(down).Seconds()+2 {
				t.Errorf("%v statements in %s", n, time.Since(down))
			}
			if s.probe("/readyz") != http.StatusOK {
				t.Error("not ready without Redis")
			}
			fresh := s.get("/v1/resolve/storage", p.token)
			pg, vault := way(t, f.pg), way(t, f.vault)
			there := time.Now()
			pg.down()
			vault.down()
			gone := time.Now()

			var stale answer
			f.eventually("a stale answer", func() bool {
				stale = s.get("/v1/resolve/storage", p.token)
				if stale.code != http.StatusOK {
					t.Fatalf("without Postgres: %d %s", stale.code, stale.body)
				}
				return stale.Stale
			})
			if n, err := number(stale); n != 1 || err != nil || stale.age(t) < ttl || stale.header.Get("X-Patchbay-Stale") != "true" {
				t.Errorf("%v %v %s", err, stale.header, stale.body)
			}
			if stale.header.Get("ETag") != fresh.header.Get("ETag") {
				t.Error("staleness moved the ETag: every watcher would wake")
			}
			if a := s.get("/v1/resolve/storage", p.token, "If-None-Match: "+fresh.header.Get("ETag")); a.code != http.StatusNotModified || a.header.Get("X-Patchbay-Stale") != "true" {
				t.Errorf("304: %d %v", a.code, a.header)
			}
			if a := s.get("/v1/resolve/email", p.token); a.code != http.StatusNotFound || a.Code != "no_default_connector" {
				t.Errorf("a negative answer: %d %s", a.code, a.body)
			}
			f.refused(s, cold.token, "storage", name == "killed") // nobody has asked for it yet
			if s.probe("/livez") != http.StatusOK {
				t.Error("not live in an outage")
			}
			var last, over time.Time
			f.eventually("max_stale is over", func() bool {
				asked := time.Now()
				a := s.get("/v1/resolve/storage", p.token)
				if a.code == http.StatusOK && !a.Stale {
					t.Fatalf("fresh in an outage: %s", a.body)
				}
				if a.code == http.StatusOK {
					last = asked
				}
				over = time.Now()
				return a.code != http.StatusOK
			})
			// It was last known to be true no later than the outage began, and no
			// more than the time of its renewal earlier. Between the last answer and the
			// first refusal the machine may have had a break.
			if most, least := last.Sub(gone), over.Sub(there); most > maxStale || least < maxStale-2*ttl-500*time.Millisecond {
				t.Errorf("stale answers went on for %s to %s with max_stale %s", most, least, maxStale)
			}
			f.refused(s, p.token, "storage", name == "killed")
			f.eventually("a negative answer ends too", func() bool { return s.get("/v1/resolve/email", p.token).code != http.StatusNotFound })
			f.refused(s, p.token, "email", name == "killed")
			if s.probe("/livez") != http.StatusOK {
				t.Error("not live in an outage")
			}

			vault.back()
			pg.back()
			redis.back()
			f.eventually("fresh again", func() bool {
				a := s.get("/v1/resolve/storage", p.token)
				return a.code == http.StatusOK && !a.Stale
			})
			f.eventually("the cold slot is answered", func() bool { return s.get("/v1/resolve/storage", cold.token).code == http.StatusOK })
			f.eventually("a negative answer is back", func() bool { return s.get("/v1/resolve/email", p.token).code == http.StatusNotFound })
			s.connected()
			if !s.alive() {
				t.Error("the sidecar ended")
			}
			// And changes are heard again.
			p.heard(s, 2, p.write(2))
			w.end()
		})
	}
}

// refused asks for what can't be answered in an outage. Where servers refuse
// connections that is clear at once: 503. Where they hang, the deadline may come
// first.
func (f *fleet) refused(s *process, token, category string, clear bool) {
	f.Helper()
	began := time.Now()
	a, err := s.try("/v1/resolve/"+category, token)
	took := f.watch.Since(began)
	if err != nil {
		f.Fatal(err)
	}
	switch {
	case a.code == http.StatusServiceUnavailable && a.Code == "unavailable" && a.header.Get("Retry-After") != "":
	case !clear && a.code == http.StatusGatewayTimeout && a.Code == "deadline_exceeded":
	default:
		f.Errorf("%s: %d %v %s", category, a.code, a.header, a.body)
	}
	if took > 3*time.Second { // the deadline is 2 s
		f.Errorf("%s: refused after %s", category, took)
	}
}

// A process starts while an upstream is away: live, not ready where it can't
// serve, one line that says so, and up by itself when the upstream comes.
func TestUpstreamAbsentAtStart(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                       string
		of                         func(f *fleet) server
		sidecarReady, controlReady bool
	}{
		{"redis", func(f *fleet) server { return f.redis }, true, true},
		{"postgres", func(f *fleet) server { return f.pg }, false, false},
		{"vault", func(f *fleet) server { return f.vault }, false, true},
	} {
		for name, way := range outages {
			t.Run(row.name+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newFleet(t, options{private: true})
				p := f.newPair("initech")
				upstream := way(t, row.of(f))
				upstream.down()
				s := f.start([]string{shortDeadline}, "serve", "--config", f.config("sidecar", "sidecar", ""))
				admin := f.start(nil, "admin", "--config", f.config("admin", "admin", ""))
				for process, ready := range map[*process]bool{s: row.sidecarReady, admin: row.controlReady} {
					f.eventually("live", func() bool { return process.probe("/livez") == http.StatusOK })
					f.eventually("a line that names it", func() bool { return strings.Contains(process.output(), `"dependency":"`+row.name+`"`) })
					if ready {
						f.eventually("ready", func() bool { return process.probe("/readyz") == http.StatusOK })
					} else if code := process.probe("/readyz"); code != http.StatusServiceUnavailable {
						t.Errorf("%s: readyz %d", process.args[0], code)
					}
				}
				if row.sidecarReady {
					if n := p.is(s); n != 0 {
						t.Errorf("an answer without %s: %d", row.name, n)
					}
				} else {
					f.refused(s, p.token, "storage", name == "killed")
				}
				upstream.back()
				s.connected()
				admin.ready()
				f.eventually("an answer", func() bool { return p.is(s) == 0 })
				p.heard(s, 1, p.write(1))
				for _, process := range []*process{s, admin} {
					if n := strings.Count(process.output(), `"dependency":"`+row.name+`","error"`); n != 1 {
						t.Errorf("%s: %d lines for one outage", process.args[0], n)
					}
				}
			})
		}
	}
}

// Everything is started at once, the migration last: processes wait for the
// schema and say so, and any number of migrations make it once.
func TestStartBeforeMigration(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{unmigrated: true})
	s := f.start([]string{shortDeadline}, "serve", "--config", f.config("sidecar", "sidecar", ""))
	admin := f.start(nil, "admin", "--config", f.config("admin", "admin", ""))
	token := f.token("initech", "hq")
	f.eventually("live", func() bool { return s.probe("/livez") == http.StatusOK && admin.probe("/livez") == http.StatusOK })
	f.refused(s, token, "storage", true)
	if o := f.importFile(f.file("early.xml", bucketFile("initech", 0))); o.code != 1 || !strings.Contains(o.err, "sidecar migrate") {
		t.Errorf("an import before the migration: exit %d, %s", o.code, o.err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if o := f.migrate(); o.code != 0 {
				t.Errorf("exit %d: %s", o.code, o.err)
			}
		})
	}
	wg.Wait()
	f.join()
	if !s.alive() || !admin.alive() {
		t.Fatal("a process did not wait for the migration")
	}
	s.connected()
	admin.ready()
	p := f.newPair("initech")
	f.eventually("an answer", func() bool { return p.is(s) == 0 })
	p.heard(s, 1, p.write(1))
}

// Redis loses what it knew, again and again, while a tenant changes: no old
// answer outlives its time, in sidecars that run and in one that starts.
func TestRedisLosesEverything(t *testing.T) {
	t.Parallel()
	command := func(args ...string) func(t *testing.T, f *fleet) {
		return func(t *testing.T, f *fleet) {
			if _, err := f.redis.Command(args...); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, lose := range map[string]func(t *testing.T, f *fleet){
		"flushed":              command("FLUSHALL"),
		"restarted":            func(t *testing.T, f *fleet) { f.redis.Kill(); f.redis.Start(t) },
		"revision key lost":    command("DEL", "pb:{initech}:rev"),
		"revision key rewound": command("SET", "pb:{initech}:rev", "1"),
		"connections lost":     command("CLIENT", "KILL", "TYPE", "pubsub"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, options{cache: "{ttl: 5s, negative_ttl: 5s}"})
			f.control()
			p := f.newPair("initech")
			a, b := f.serve(), f.serve()
			for _, s := range []*process{a, b} {
				if n := p.is(s); n != 0 {
					t.Fatal(n)
				}
			}
			w := p.watch(1, nil, a, b)
			for n := 1; n <= 4; n++ {
				before := n%2 == 0
				if before {
					lose(t, f)
				}
				committed := p.write(n)
				if !before {
					lose(t, f) // what the change announced is forgotten too
				}
				for _, s := range []*process{a, b} {
					p.heard(s, n, committed)
					s.connected()
				}
			}
			// A sidecar that knows nothing must not find an old entry.
			if n := p.is(f.serve()); n != 4 {
				t.Errorf("a new sidecar answers %d", n)
			}
			w.end()
		})
	}
}
