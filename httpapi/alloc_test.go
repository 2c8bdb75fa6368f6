//go:build !race

// The race detector makes sync.Pool allocate at random.

package httpapi

import (
	"bytes"
	"slices"
	"testing"

	"github.com/valyala/fasthttp"
)

// TestHitAllocatesNothing: from the bytes of a request to those of its answer,
// the token's memory, guard, metrics and log included. It compares with a bare
// handler, so that what the server does by itself is not counted.
func TestHitAllocatesNothing(t *testing.T) {
	ours, bare, request, other := hot(t)
	for name, requests := range map[string][]byte{
		"one caller":                         request,
		"callers in turns on one connection": slices.Concat(request, other),
	} {
		t.Run(name, func(t *testing.T) {
			const reads = 1000
			n := float64(reads * bytes.Count(requests, headEnd))
			count := func(s *fasthttp.Server) float64 {
				w := &wire{request: requests}
				w.serve(t, s, 10)
				return testing.AllocsPerRun(10, func() { w.serve(t, s, reads) }) / n
			}
			// A connection has a few of its own, which the first request pays.
			if o, b := count(ours), count(bare); o > b+0.02 {
				t.Errorf("a hit allocates %.3f times, a bare handler %.3f", o, b)
			}
		})
	}
}
