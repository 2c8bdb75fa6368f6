package tenant

import (
	"runtime"
	"strconv"
	"testing"
	"time"
)

func entry(n int, expires time.Time, k *key) ([32]byte, *Env) {
	s := strconv.Itoa(n)
	return sum("token " + s), &Env{
		tenant: ID{"tenant-" + s}, organization: OrganizationID{"hq-" + s},
		organizations: []OrganizationID{{"hq-" + s}, {"lab-" + s}}, subject: "user-" + s,
		roles: []string{"role-" + s}, permissions: []Permission{ConnectorsRead}, expires: expires, key: k,
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const bound = 64 << 10
	m, k, now := newMemory(bound), &key{}, time.Now()
	for n := range 5000 {
		id, env := entry(n, now.Add(time.Hour), k)
		m.put(id, env)
	}
	m.cache.CleanUp()
	if w := m.cache.WeightedSize(); w > bound || w < bound/2 {
		t.Errorf("holds %d bytes of at most %d", w, bound)
	}
	// The bytes bound the count too: no entry is charged less than its overhead.
	if n := m.cache.EstimatedSize(); n > bound/entryOverhead {
		t.Errorf("holds %d tokens in %d bytes", n, bound)
	}
}

func TestSweep(t *testing.T) {
	t.Parallel()
	m, stays, gone, now := newMemory(1<<20), &key{}, &key{}, time.Now()
	live, env := entry(1, now.Add(time.Minute), stays)
	m.put(live, env)
	expired, env := entry(2, now, stays)
	m.put(expired, env)
	orphan, env := entry(3, now.Add(time.Minute), gone)
	m.put(orphan, env)
	gone.gone.Store(true)
	if m.get(expired, now) != nil || m.get(orphan, now) != nil {
		t.Error("a dead token is vouched for before the sweep")
	}
	m.sweep(now)
	if n := m.cache.EstimatedSize(); n != 1 || m.get(live, now) == nil {
		t.Errorf("%d entries after the sweep, want the live one", n)
	}
}

// BenchmarkMemoryEntry reports what an entry costs beside what it is charged.
func BenchmarkMemoryEntry(b *testing.B) {
	const entries = 10_000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return s.HeapAlloc
	}
	for b.Loop() {
		before, k, now := heap(), &key{}, time.Now()
		m := newMemory(64 << 20)
		for n := range entries {
			id, env := entry(n, now.Add(time.Hour), k)
			m.put(id, env)
		}
		m.cache.CleanUp()
		b.ReportMetric(float64(heap()-before)/entries, "heap-B/entry")
		b.ReportMetric(float64(m.cache.WeightedSize())/entries, "charged-B/entry")
		runtime.KeepAlive(m)
	}
}
