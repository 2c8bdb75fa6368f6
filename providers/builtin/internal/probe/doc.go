// Package probe is what the mail kinds that speak a vendor's HTTP API share in
// their connection tests: the one message that a test sends at level 3, and whom
// it is from and to. A kind's config and the test's options flow in; addresses
// that can't break out of a header flow out. It imports package providers and
// does no I/O: each vendor's request is made in its own package.
package probe
