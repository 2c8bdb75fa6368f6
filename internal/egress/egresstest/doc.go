// Package egresstest is what every package that dials a tenant's host is attacked
// with: the ways to write an address on the inside ([Forms]), servers on the
// inside that count who reached them ([Plant]), and a DNS server that changes its
// mind ([StartDNS]).
//
// A suite plants servers, walks the forms and names through whatever it dials with,
// and ends with [Planted.Check]. It imports nothing of the project, so that the
// dialler's own tests can use it, and is imported by tests alone.
package egresstest
