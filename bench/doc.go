// Command bench measures the hot path against its limit: the real binary and a
// bare Fiber handler that returns the same bytes, side by side, in turns, in one
// run. It prints ratios, which hold on a noisy machine, beside the figures they
// come from. Loopback only; it stops by itself.
//
//	go run ./bench            # prints
//	go run ./bench -out bench/RESULTS.md
//
// It imports no package of the product: it sees what a user sees.
package main
