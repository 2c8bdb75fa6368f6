// Command bare is the limit that bench holds the sidecar against: a Fiber
// handler that returns the bytes of a file and does nothing else.
//
// It imports Fiber and nothing of the product, so that its start-up and its
// size are Fiber's own.
package main
