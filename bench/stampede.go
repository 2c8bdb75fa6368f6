package main

import (
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"
)

// stampede has a thousand callers ask for one cold slot at once.
func (w *world) stampede(r *report, o options) {
	const callers, slots = 1000, 5
	p := w.serve(0)
	p.connected()
	p.resolve("email", w.token(2)) // connections are open
	transport := &http.Transport{MaxIdleConnsPerHost: callers}
	defer transport.CloseIdleConnections()
	crowd := &http.Client{Timeout: patience, Transport: transport}
	var rows [][]string
	ok, got := true, ""
	for i := range slots {
		token := w.token(o.tenants - 1 - i)
		before := p.metrics()
		var g errgroup.Group
		start := make(chan struct{})
		for range callers {
			g.Go(func() error {
				req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, "http://"+p.addr+"/v1/resolve/storage", nil)
				if err != nil {
					return err
				}
				req.Header.Set("Authorization", "Bearer "+token)
				<-start
				res, err := crowd.Do(req)
				if err != nil {
					return err
				}
				_ = res.Body.Close() // only the status counts
				if res.StatusCode != http.StatusOK {
					return fmt.Errorf("a caller of the stampede got %s", res.Status)
				}
				return nil
			})
		}
		close(start)
		w.must(g.Wait())
		after := p.metrics()
		delta := func(name string) float64 { return after[name] - before[name] }
		database, vault, redis := delta("patchbay_database_reads_total"), delta("patchbay_vault_reads_total"), delta("patchbay_redis_reads_total")
		ok = ok && database == 1 && vault == 1
		got = fmt.Sprintf("%.0f and %.0f", database, vault)
		rows = append(rows, []string{fmt.Sprint(i + 1), fmt.Sprint(callers), fmt.Sprintf("%.0f", redis), fmt.Sprintf("%.0f", database), fmt.Sprintf("%.0f", vault)})
		if database != 1 || vault != 1 {
			break
		}
	}
	p.stop()
	r.find(ok, fmt.Sprintf("%d callers of one cold slot: database and Vault reads", callers), "1 and 1", "%s in each of %d stampedes", got, len(rows))
	r.table("Stampede", "Goroutines are released at once, each with a request of its own; reads are the differences of /metrics. All callers get 200.",
		[]string{"stampede", "callers", "Redis reads", "database reads", "Vault reads"}, rows)
}
