package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// short times, so that every stage of an outage is reached in seconds.
const shortCache = "{ttl: 1s, negative_ttl: 1s, max_stale: 6s}"

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
			const ttl, maxStale = time.Second, 6 * time.Second // as in shortCache
			f := newFleet(t, options{private: true, cache: shortCache})
			f.control()
			p := f.newPair("initech")
			cold := f.newPair("umbrella")
			s := f.serve()
			fresh := s.get("/v1/resolve/storage", p.token)
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
			fresh = s.get("/v1/resolve/storage", p.token)
			pg, vault := way(t, f.pg), way(t, f.vault)
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
			var last time.Time
			f.eventually("max_stale is over", func() bool {
				asked := time.Now()
				a := s.get("/v1/resolve/storage", p.token)
				if a.code == http.StatusOK && !a.Stale {
					t.Fatalf("fresh in an outage: %s", a.body)
				}
				if a.code == http.StatusOK {
					last = asked
				}
				return a.code != http.StatusOK
			})
			// It was last known to be true no later than the outage began, and no
			// more than the time of its renewal earlier.
			if held := last.Sub(gone); held > maxStale || held < maxStale-2*ttl-500*time.Millisecond {
				t.Errorf("stale answers went on for %s with max_stale %s", held, maxStale)
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
	a := s.get("/v1/resolve/"+category, token)
	switch {
	case a.code == http.StatusServiceUnavailable && a.Code == "unavailable" && a.header.Get("Retry-After") != "":
	case !clear && a.code == http.StatusGatewayTimeout && a.Code == "deadline_exceeded":
	default:
		f.Errorf("%s: %d %v %s", category, a.code, a.header, a.body)
	}
	if took := time.Since(began); took > 3*time.Second { // the deadline is 2 s
		f.Errorf("%s: refused after %s", category, took)
	}
}

// A sidecar starts while an upstream is away: live, not ready where it can't
// serve, a line that says so, and up by itself when the upstream comes.
func TestUpstreamAbsentAtStart(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name  string
		of    func(f *fleet) server
		ready bool
	}{
		{"redis", func(f *fleet) server { return f.redis }, true},
		{"postgres", func(f *fleet) server { return f.pg }, false},
		{"vault", func(f *fleet) server { return f.vault }, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, options{private: true})
			f.importFile(f.file("tenant.xml", bucketFile("initech", 1))).ok(t)
			row.of(f).Kill()
			s := f.start(nil, "serve", "--config", f.config("sidecar", "sidecar", ""))
			f.eventually("live", func() bool { return s.probe("/livez") == http.StatusOK })
			f.eventually("a line that names it", func() bool { return strings.Contains(s.output(), `"dependency":"`+row.name+`"`) })
			token := f.token("initech", "hq")
			if row.ready {
				f.eventually("ready", func() bool { return s.probe("/readyz") == http.StatusOK })
				if a := s.get("/v1/resolve/storage", token); a.code != http.StatusOK {
					t.Errorf("%d %s", a.code, a.body)
				}
			} else {
				if code := s.probe("/readyz"); code != http.StatusServiceUnavailable {
					t.Errorf("readyz %d", code)
				}
				a := s.get("/v1/resolve/storage", token)
				if a.code != http.StatusServiceUnavailable || a.Code != "unavailable" || a.header.Get("Retry-After") == "" {
					t.Errorf("%d %v %s", a.code, a.header, a.body)
				}
			}
			row.of(f).Start(t)
			s.ready()
			f.eventually("an answer", func() bool { return s.get("/v1/resolve/storage", token).code == http.StatusOK })
			if n := strings.Count(s.output(), `"dependency":"`+row.name+`","error"`); n != 1 {
				t.Errorf("%d lines for one outage", n)
			}
		})
	}
}

// Redis loses what it knew; a change right after it must not be missed for long,
// and no old entry may come back.
func TestRedisLosesEverything(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(t *testing.T, f *fleet){
		"flushed": func(t *testing.T, f *fleet) {
			if _, err := f.redis.Command("FLUSHALL"); err != nil {
				t.Fatal(err)
			}
		},
		"restarted": func(t *testing.T, f *fleet) { f.redis.Kill(); f.redis.Start(t) },
		"revision key lost": func(t *testing.T, f *fleet) {
			if _, err := f.redis.Command("DEL", "pb:{initech}:rev"); err != nil {
				t.Fatal(err)
			}
		},
		"revision key rewound": func(t *testing.T, f *fleet) {
			if _, err := f.redis.Command("SET", "pb:{initech}:rev", "1"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, options{})
			f.control()
			file := f.file("tenant.xml", bucketFile("initech", 1))
			f.importFile(file).ok(t)
			a, b := f.serve(), f.serve()
			token := f.token("initech", "hq")
			for _, s := range []*process{a, b} {
				if got := s.get("/v1/resolve/storage", token); got.Config["bucket"] != "bucket-1" {
					t.Fatalf("%s", got.body)
				}
			}
			for n := 2; n <= 4; n++ {
				lose(t, f)
				f.file("tenant.xml", bucketFile("initech", n))
				f.importFile(file).ok(t)
				committed := time.Now()
				// Connected again within a second or two, and from then on right; a
				// connected one within a second. Whoever is not connected says so by
				// its Age, and is right once its ttl has passed.
				for _, s := range []*process{a, b} {
					f.eventually("the change is served", func() bool {
						return s.get("/v1/resolve/storage", token).Config["bucket"] == fmt.Sprintf("bucket-%d", n)
					})
					if took := time.Since(committed); took > 5*time.Second {
						t.Errorf("after %s", took)
					}
					s.connected()
				}
				// A third sidecar, which knows nothing, must not find an old entry.
				c := f.serve()
				if got := c.get("/v1/resolve/storage", token); got.Config["bucket"] != fmt.Sprintf("bucket-%d", n) {
					t.Errorf("a new sidecar answers %s", got.body)
				}
				c.kill()
			}
		})
	}
}

// kill -9 of any process at any moment: what was acknowledged stays and
// resolves, what was not leaves nothing half-done.
func TestKilledProcesses(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	admin := f.control()
	file := f.file("tenant.xml", bucketFile("initech", 1))
	f.importFile(file).ok(t)
	s := f.serve()
	token := f.token("initech", "hq")
	var wg sync.WaitGroup
	for n := 2; n <= 7; n++ {
		// One import is killed at some moment of its life...
		f.file("tenant.xml", bucketFile("initech", n))
		p := f.start(nil, "import", "--config", f.config("admin", "admin", ""), file)
		time.Sleep(time.Duration(n*15) * time.Millisecond) // any moment will do
		p.kill()
		// ...while the relay and the sidecar are too.
		wg.Go(func() { admin.kill() })
		wg.Go(func() { s.kill() })
		wg.Wait()
		s.begin()
		s.ready()
		got := s.get("/v1/resolve/storage", token)
		if got.code != http.StatusOK {
			t.Fatalf("%d %s", got.code, got.body)
		}
		var a, b int
		_, _ = fmt.Sscanf(fmt.Sprint(got.Config["bucket"]), "bucket-%d", &a)
		_, _ = fmt.Sscanf(fmt.Sprint(got.Config["secret_access_key"]), "secret-%d", &b)
		if a != b || a != n && a != n-1 {
			t.Fatalf("half an import: %s", got.body)
		}
		// The same import again completes what was begun, and is acknowledged.
		f.importFile(file).ok(t)
		admin.begin()
		admin.ready()
		s.connected()
		f.within(2*time.Second, "the acknowledged import is served", func() bool {
			return s.get("/v1/resolve/storage", token).Config["bucket"] == fmt.Sprintf("bucket-%d", n)
		})
	}
}

// On SIGTERM a sidecar is not ready, live to the end, and leaves with 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.importFile(f.file("tenant.xml", bucketFile("initech", 1))).ok(t)
	s := f.start(nil, "serve", "--config", f.config("sidecar", "sidecar", ""))
	s.ready()
	if a := s.get("/v1/resolve/storage", f.token("initech", "hq")); a.code != http.StatusOK {
		t.Fatalf("%d %s", a.code, a.body)
	}
	if code := s.stop(); code != 0 {
		t.Errorf("exit %d\n%s", code, s.output())
	}
	if !strings.Contains(s.output(), "draining") {
		t.Errorf("no word of the drain:\n%s", s.output())
	}
}
