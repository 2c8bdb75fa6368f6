package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func freeAddr(h *host) string { return fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(h)) }

// starts measures from exec to the first 200: of /readyz with real servers, and
// of a bare Fiber program, in turns.
func (w *world) starts(r *report, o options) {
	config := w.config(w.servers(w.db.sidecar), w.reader)
	body := w.file("ok.json", "{}")
	var ours, bare, ratio []float64
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	for i := range o.starts + 1 {
		p := w.sidecar(0, config, "serve")
		a := ms(p.ready())
		p.stop()
		addr := freeAddr(w.host)
		q := w.start(0, nil, filepath.Join(w.dir, "bare"), "-addr", addr, "-body", body)
		b := ms(q.answers("http://" + addr + "/v1/resolve/storage"))
		q.stop()
		if i > 0 { // the first reads the programs from disk
			ours, bare, ratio = append(ours, a), append(bare, b), append(ratio, a/b)
		}
	}
	s := spreadOf(ours)
	r.find(s.median <= 300, "start to ready, real servers", "<= 300 ms", "%s ms", s.format("%.0f"))
	r.table("Start to ready", fmt.Sprintf(`
From exec to the first 200 of /readyz, with Postgres, Redis and a Vault login by AppRole; a bare Fiber program in turns with it,
from exec to its first 200. Both are asked every millisecond; %d starts each, after one that doesn't count.`, o.starts),
		[]string{"what", "min / median / max"}, [][]string{
			{"sidecar, ms", s.format("%.0f")}, {"bare Fiber, ms", spreadOf(bare).format("%.0f")}, {"ratio", spreadOf(ratio).format("%.1f")}})
}
