package main

import (
	"context"
	"net"
	"os"
	"runtime/pprof"
	"time"
)

// profile writes where the processor time of hits goes: the data plane runs in
// this process, the load generator beside it.
func (w *world) profile(_ *report, o options) {
	p := w.plane()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	ended := make(chan error, 1)
	go func() { ended <- p.local.Serve(ln) }()
	url, token := "http://"+ln.Addr().String()+"/v1/resolve/storage", w.token(4)
	_, _, body, err := get(w.ctx, url, token)
	w.must(err)
	f, err := os.Create(o.profile)
	w.must(err)
	_, asking := halves()
	w.must(pprof.StartCPUProfile(f))
	w.load(asking, order{Addr: ln.Addr().String(), Path: "/v1/resolve/storage", Tokens: []string{token}, Connections: 16, Length: 5 * time.Second, Want: body})
	pprof.StopCPUProfile()
	w.must(f.Close())
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	client.CloseIdleConnections()
	w.must(p.local.Shutdown(ctx))
	w.must(<-ended)
}
