package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// rival is one side of the comparison of hits.
type rival struct {
	name string
	p    *process

	figures []figures
	cpu     []float64 // microseconds of the process per request
}

// hits holds a memory hit, by HTTP with an ES256 JWT, against a bare Fiber
// handler that returns the same bytes: headers and body. A second bare handler,
// which returns the body alone, shows what the headers cost.
func (w *world) hits(r *report, o options) {
	served, asking := halves()
	side := w.serve(served)
	side.connected()
	token := w.token(0)
	side.resolve("storage", token)
	body, header := side.resolve("storage", token)
	if header.Get("X-Patchbay-Source") != "memory" {
		w.Fatalf("not a memory hit: %v", header)
	}
	var list [][2]string
	for _, name := range []string{"ETag", "Cache-Control", "X-Patchbay-Source", "Age", "X-Patchbay-Revision", "X-Patchbay-Stale"} {
		if header.Get(name) == "" {
			w.Fatalf("the answer has no %s", name)
		}
		list = append(list, [2]string{name, header.Get(name)})
	}
	headers, err := json.Marshal(list)
	w.must(err)
	bodyFile, headersFile := w.file("body.json", string(body)), w.file("headers.json", string(headers))
	bare := func(args ...string) *process {
		return w.startBare(served, append([]string{"-body", bodyFile}, args...)...)
	}
	rivals := []*rival{{name: "sidecar", p: side}, {name: "bare, same bytes", p: bare("-headers", headersFile)}, {name: "bare, body only", p: bare()}}

	var rows [][]string
	rates, tails, cpus, rateOK, tailOK, cpuOK := "", "", "", true, true, true
	tokens := []string{token}
	for i := range 63 { // of the same organization, so that the answer is the same
		tokens = append(tokens, w.kit.Token(tenanttest.Claims{Tenant: tenantName(0), Organization: organization, Subject: fmt.Sprint("user-", i), TTL: 2 * time.Hour}))
	}
	for _, load := range []struct {
		connections, tokens int
	}{{1, 1}, {16, 1}, {128, 1}, {16, len(tokens)}} {
		name := fmt.Sprint(load.connections)
		if load.tokens > 1 {
			name += fmt.Sprintf(", %d tokens", load.tokens)
		}
		for _, v := range rivals {
			v.figures, v.cpu = nil, nil
		}
		for round := range o.rounds {
			turn := slices.Clone(rivals)
			if round%2 == 1 {
				slices.Reverse(turn) // whoever goes first or last has no advantage
			}
			for _, v := range turn {
				before := v.p.cpu()
				f := w.load(asking, order{Addr: v.p.addr, Path: "/v1/resolve/storage", Tokens: tokens[:load.tokens], Connections: load.connections, Length: o.length, Want: body})
				v.figures = append(v.figures, f)
				v.cpu = append(v.cpu, float64(v.p.cpu()-before)/float64(time.Microsecond)/float64(f.Requests))
			}
		}
		for _, v := range rivals[1:] {
			var rate, tail, cpu []float64
			for i, f := range rivals[0].figures {
				rate = append(rate, f.rate()/v.figures[i].rate())
				tail = append(tail, float64(f.P99)/float64(v.figures[i].P99))
				cpu = append(cpu, rivals[0].cpu[i]/v.cpu[i])
			}
			rows = append(rows, []string{name, v.name, spreadOf(rate).format("%.3f"), spreadOf(tail).format("%.2f"), spreadOf(cpu).format("%.3f")})
			if v != rivals[1] {
				continue
			}
			rates += fmt.Sprintf("; with %s: %s", name, spreadOf(rate).format("%.3f"))
			tails += fmt.Sprintf("; with %s: %s", name, spreadOf(tail).format("%.2f"))
			cpus += fmt.Sprintf("; with %s: %s", name, spreadOf(cpu).format("%.3f"))
			cpuOK = cpuOK && spreadOf(cpu).median <= 1/0.95
			rateOK = rateOK && spreadOf(rate).median >= 0.95
			tailOK = tailOK && spreadOf(tail).median <= 1.3
		}
		for _, v := range rivals {
			median := func(f func(figures) float64) float64 {
				var all []float64
				for _, x := range v.figures {
					all = append(all, f(x))
				}
				return spreadOf(all).median
			}
			rows = append(rows, []string{name, "(" + v.name + " itself)",
				fmt.Sprintf("%.0f/s", median(figures.rate)),
				fmt.Sprintf("%.0f us", median(func(f figures) float64 { return float64(f.P99) / 1000 })),
				fmt.Sprintf("%.2f us; generator %.0f %% busy", spreadOf(slices.Clone(v.cpu)).median, 100*median(func(f figures) float64 { return f.Busy }))})
		}
	}
	for _, v := range rivals {
		v.p.stop()
	}
	r.find(rateOK, "memory hit, requests/s to bare Fiber's with the same bytes, by connections", ">= 0.95", "%s", rates[2:])
	r.find(tailOK, "memory hit, p99 to bare Fiber's with the same bytes, by connections", "<= 1.3", "%s", tails[2:])
	r.find(cpuOK, "memory hit, processor time per request to bare Fiber's with the same bytes, by connections", "<= 1.05 (the same target on a machine of its own)", "%s", cpus[2:])
	r.table("Memory hit over HTTP", fmt.Sprintf(`
One warm slot, an ES256 JWT, keep-alive connections that each ask as soon as they are answered. With one token, every request
sends the same; with 64, as an app does that serves many users, each request of a connection sends the next. The sidecar runs on real
servers. Rivals take turns (sidecar, bare, bare, sidecar, ...), %d rounds of %v each; every ratio is of neighbours in one
round. Server and load generator are processes on processors of their own where there are two. Each answer's status and body are
checked. Figures are min / median / max. The ratios are the sidecar's to the rival's; below them stand the medians of each by
itself. "CPU" is processor time of the server per request: requests/s and p99 depend on how much of its processor other work on
the machine leaves to each rival, this hardly does.`, o.rounds, o.length),
		[]string{"connections", "against", "requests/s", "p99", "CPU per request"}, rows)
}

// startBare runs the bare handler and waits for it.
func (h *host) startBare(mask uint64, args ...string) *process {
	addr := freeAddr(h)
	p := h.start(mask, nil, filepath.Join(h.dir, "bare"), append([]string{"-addr", addr}, args...)...)
	p.addr = addr
	p.answers("http://" + addr + "/v1/resolve/storage")
	return p
}
