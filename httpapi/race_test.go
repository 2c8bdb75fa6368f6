//go:build race

package httpapi

// underRace: the race detector makes sync.Pool drop items at random, so that
// allocations can not be counted.
const underRace = true
