// Package problem is the one table that turns a fault into a problem (RFC 9457),
// and its one writer, for every HTTP surface.
//
// Errors flow in, statuses and bodies flow out: of an internal error one fixed
// sentence, of any other its public message and violations, never a cause. It may
// import fault and Fiber; the packages of the surfaces import it.
package problem
