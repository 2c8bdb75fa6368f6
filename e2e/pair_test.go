package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// promise is how long a connected sidecar may serve what a change made old
// (DESIGN 9, invariant 3).
const promise = time.Second

// pair is a tenant with one connector whose bucket and secret carry the same
// number, which only grows. Of any answer one can tell whether it is a mix of
// two writes, and how old it is.
type pair struct {
	f            *fleet
	tenant, file string
	token        string
	login        string // of the database, for imports

	mu    sync.Mutex
	since map[int]time.Time // when a number was committed; only of acknowledged writes
}

// newPair makes the tenant and writes the number 0.
func (f *fleet) newPair(tenant string) *pair {
	f.Helper()
	p := &pair{f: f, tenant: tenant, file: filepath.Join(f.dir, tenant+".xml"), token: f.token(tenant, "hq"), login: "admin", since: map[int]time.Time{}}
	p.write(0)
	return p
}

// write imports a number and returns the moment it was committed. env goes to
// the import.
func (p *pair) write(n int, env ...string) time.Time {
	p.f.Helper()
	p.f.file(filepath.Base(p.file), bucketFile(p.tenant, n))
	p.f.importAs(p.login, p.file, env...).ok(p.f)
	acknowledged := time.Now()
	at := p.f.committed(p.tenant)
	if at.After(acknowledged) {
		at = acknowledged
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since[n] = at
	return at
}

// number is what an answer carries; an error tells of a mix.
func number(a answer) (int, error) {
	var n, m int
	_, err1 := fmt.Sscanf(fmt.Sprint(a.Config["bucket"]), "bucket-%d", &n)
	_, err2 := fmt.Sscanf(fmt.Sprint(a.Config["secret_access_key"]), "secret-%d", &m)
	if err1 != nil || err2 != nil || n != m {
		return 0, fmt.Errorf("config and secret do not belong together: %s", a.body)
	}
	return n, nil
}

// is asks a sidecar for the number; -1 where it answers none.
func (p *pair) is(s *process) int {
	p.f.Helper()
	a := s.get("/v1/resolve/storage", p.token)
	if a.code != http.StatusOK {
		return -1
	}
	n, err := number(a)
	if err != nil {
		p.f.Fatal(err)
	}
	return n
}

// heard waits until a sidecar serves a number that was committed at a time, and
// fails when it takes longer than a change may. A sidecar that a busy machine
// has cut off for a moment is not connected, and says so by its Age.
func (p *pair) heard(s *process, n int, committed time.Time) {
	p.f.Helper()
	p.f.eventually(fmt.Sprintf("%d is served", n), func() bool {
		asked := time.Now()
		a := s.get("/v1/resolve/storage", p.token)
		if a.code != http.StatusOK {
			p.f.Fatalf("%d %s", a.code, a.body)
		}
		got, err := number(a)
		if err != nil {
			p.f.Fatal(err)
		}
		if late := asked.Sub(committed) - promise - a.age(p.f); got < n && late > 0 {
			p.f.Fatalf("%d is served %s after the commit of %d, as %s old", got, asked.Sub(committed), n, a.age(p.f))
		}
		return got == n
	})
}

// watch reads from sidecars all the time and remembers what would break a
// promise. An answer's Age says that it was true that long ago, so no answer,
// stale or fresh, connected or not, may be older than Age plus one second.
type watch struct {
	p        *pair
	tolerate []int // statuses, beside 200
	ended    atomic.Bool
	wg       sync.WaitGroup

	unordered bool // numbers are written in any order

	mu      sync.Mutex
	last    map[int]sighting              // by number: the answer that claims the latest truth
	first   map[*process]map[int]sighting // by number: when it was first served
	answers int
}

type sighting struct {
	at    time.Time
	claim time.Time // no earlier than this it was true, says the answer
	age   time.Duration
	stale bool
}

// watch starts readers of each sidecar; end ends them.
func (p *pair) watch(readers int, tolerate []int, sidecars ...*process) *watch {
	return p.start(&watch{tolerate: tolerate}, readers, sidecars)
}

// watchAny is watch for writers that meet: which number is the later one is
// not known then, only that each is whole.
func (p *pair) watchAny(sidecars ...*process) *watch {
	return p.start(&watch{unordered: true}, 1, sidecars)
}

func (p *pair) start(w *watch, readers int, sidecars []*process) *watch {
	w.p, w.last, w.first = p, map[int]sighting{}, map[*process]map[int]sighting{}
	// A test that failed goes without end: no reader may outlive it.
	p.f.Cleanup(func() { w.ended.Store(true); w.wg.Wait() })
	for _, s := range sidecars {
		w.first[s] = map[int]sighting{}
		for range readers {
			w.wg.Go(func() { w.read(s) })
		}
	}
	return w
}

func (w *watch) read(s *process) {
	newest := -1
	for ; !w.ended.Load(); time.Sleep(2 * time.Millisecond) { // the other tests need the processor too
		asked := time.Now()
		a, err := s.try("/v1/resolve/storage", w.p.token)
		if err == nil && (a.code != http.StatusOK && slices.Contains(w.tolerate, a.code) || w.p.f.stalled(a, asked)) {
			continue
		}
		if err != nil || a.code != http.StatusOK {
			w.p.f.Errorf("%d %s %v", a.code, a.body, err)
			return
		}
		n, err := number(a)
		if err != nil {
			w.p.f.Error(err)
			return
		}
		if n < newest && !w.unordered {
			w.p.f.Errorf("%d is served after %d", n, newest)
			return
		}
		newest = n
		age := a.age(w.p.f)
		seen := sighting{at: time.Now(), claim: asked.Add(-age), age: age, stale: a.Stale}
		w.mu.Lock()
		w.answers++
		if old, ok := w.last[n]; !ok || seen.claim.After(old.claim) {
			w.last[n] = seen
		}
		if _, ok := w.first[s][n]; !ok {
			w.first[s][n] = seen
		}
		w.mu.Unlock()
	}
}

// end ends the reading and checks what was seen. It returns how many answers
// there were, and of all (sidecar, write) how many were heard in time.
func (w *watch) end() (answers, inTime int) {
	w.p.f.Helper()
	w.ended.Store(true)
	w.wg.Wait()
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	for n, seen := range w.last {
		if w.unordered {
			break
		}
		end, known := time.Time{}, false
		for m, at := range w.p.since { // the first acknowledged write after n
			if m > n && (!known || at.Before(end)) {
				end, known = at, true
			}
		}
		if known && seen.claim.After(end.Add(promise)) {
			w.p.f.Errorf("%d is served %s after it was replaced, as %s old (stale: %t)", n, seen.at.Sub(end), seen.age, seen.stale)
		}
	}
	for _, first := range w.first {
		for n, at := range w.p.since {
			for m, seen := range first {
				if m >= n && seen.at.Sub(at) <= promise {
					inTime++
					break
				}
			}
		}
	}
	return w.answers, inTime
}

// age is how long ago the answer was last known to be true, in whole seconds.
func (a answer) age(t testing.TB) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(a.header.Get("Age") + "s")
	if err != nil || d < 0 {
		t.Fatalf("Age: %q", a.header.Get("Age"))
	}
	return d
}
