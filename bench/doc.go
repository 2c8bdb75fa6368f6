// Command bench measures what the product promises of speed and memory, against
// its limit: the released binary on real Postgres, Redis and Vault, beside a
// bare Fiber handler that returns the same bytes (bench/bare), in turns, in one
// run. What it reports are ratios, which hold on a noisy machine, and counters,
// from /metrics and from proxies on the wire; never a time alone, but where the
// promise is one. Loopback only; it stops by itself.
//
//	go run ./bench                    # everything; writes bench/RESULTS.md
//	go run ./bench -quick             # a small run, to see that it works
//	go run ./bench -only hit,memory   # some stages
//	go run ./bench -only profile -profile hits.prof
//
// main.go has the stages, each in a file of its own name; world.go sets up the
// servers and the data; load.go is the load generator, a process of its own. A
// target that is missed is reported as missed: bench fails only where something
// could not be measured at all.
//
// It looks at the whole and may import everything; nothing imports it.
package main
