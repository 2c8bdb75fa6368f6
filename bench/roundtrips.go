package main

import (
	"fmt"
	"net/url"
	"strings"
)

// tapped is a sidecar whose every upstream is behind a proxy.
func (w *world) tapped() (*process, *wire) {
	seen := &wire{}
	pg, err := url.Parse(w.db.sidecar)
	w.must(err)
	pg.Host = w.tap(pg.Host, seen.postgres, plain)
	vaultURL, err := url.Parse(w.vault.Addr)
	w.must(err)
	s := servers{
		postgres: pg.String(),
		redis:    "redis://" + w.tap(w.redis.Addr, seen.redis, plain) + "/0",
		vault:    "http://" + w.tap(vaultURL.Host, seen.http, plain),
	}
	p := w.sidecar(0, w.config(s, w.reader), "serve")
	p.connected()
	return p, seen
}

// trips are the exchanges of one request.
type trips struct{ redis, postgres, vault, beforeVault, all int }

// tripsOf sorts out what every process does by itself, second by second: pings,
// and the batched reading of revisions. Everything else is the request's.
func tripsOf(all []exchange) trips {
	var t trips
	for _, e := range all {
		switch {
		case e.server == "redis" && e.what == "PING",
			e.server == "postgres" && strings.HasSuffix(e.what, "; SELECT"),
			e.server == "postgres" && strings.Contains(e.what, "t.id = ANY"):
			continue
		case e.server == "vault" && !strings.Contains(e.what, "/data/"): // renewal
			continue
		}
		t.all++
		switch e.server {
		case "redis":
			t.redis++
		case "postgres":
			t.postgres++
		default:
			t.vault++
		}
		if t.vault == 0 {
			t.beforeVault++
		}
	}
	return t
}

// roundTrips counts, between the sidecar and its servers, what a miss costs.
func (w *world) roundTrips(r *report, _ options) {
	const warm, counted = 5, 50
	first, seen := w.tapped()
	second, seenToo := w.tapped()
	ask := func(p *process, seen *wire, i int, want string) trips {
		token := w.token(i)
		seen.take()
		_, header := p.resolve("storage", token)
		if got := header.Get("X-Patchbay-Source"); got != want {
			w.Fatalf("the answer is from %s, not %s", got, want)
		}
		return tripsOf(seen.take())
	}
	var cold, shared, hit []trips
	for i := range warm + counted {
		n := 10 + i // slots that no other stage has asked for
		a := ask(first, seen, n, "database")
		b := ask(second, seenToo, n, "redis")
		c := ask(second, seenToo, n, "memory")
		if i >= warm { // connections are open by then
			cold, shared, hit = append(cold, a), append(shared, b), append(hit, c)
		}
	}
	row := func(name string, ts []trips) []string {
		of := func(f func(trips) int) string {
			var all []float64
			for _, t := range ts {
				all = append(all, float64(f(t)))
			}
			return spreadOf(all).format("%.0f")
		}
		return []string{name, of(func(t trips) int { return t.redis }), of(func(t trips) int { return t.postgres }),
			of(func(t trips) int { return t.vault }), of(func(t trips) int { return t.beforeVault })}
	}
	most := func(ts []trips, f func(trips) int) (n int) {
		for _, t := range ts {
			n = max(n, f(t))
		}
		return n
	}
	before := func(t trips) int { return t.beforeVault }
	secrets := func(t trips) int { return t.vault }
	r.find(most(shared, before) == 1, "Redis hit, round trips before Vault", "1", "%d", most(shared, before))
	r.find(most(cold, before) == 2, "database, round trips before Vault", "2", "%d", most(cold, before))
	r.find(max(most(shared, secrets), most(cold, secrets)) == 1, "a miss, Vault reads", "<= 1 per connector", "%d", max(most(shared, secrets), most(cold, secrets)))
	for _, p := range []*process{first, second} {
		p.stop()
	}
	r.table("Round trips of a miss", fmt.Sprintf(`
Counted on the wire by proxies between two sidecars and their servers, on open connections, over %d slots: the first sidecar
finds each in the database, the second in Redis and then in memory. An exchange is what the client waits for: a Redis command, a
Postgres Sync, an HTTP request. Pings, the batched reading of revisions and Vault's token renewal are left out. The one that
fills Redis comes after Vault. Figures are min / median / max.`, counted),
		[]string{"the answer is from", "Redis", "Postgres", "Vault", "before Vault"}, [][]string{
			row("database", cold), row("Redis", shared), row("memory", hit)})
}
