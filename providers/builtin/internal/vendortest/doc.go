// Package vendortest is how the kinds of vendors that can't be reached from a
// test are tested: an HTTP server on loopback that speaks what the vendor
// documents and checks what it is asked, the ways in which any server fails
// (Faults), and token sources. The provider under test goes through the real
// egress dialler. Only tests import it; it imports package providers and its
// suite, the dialler, and testenv for certificates.
package vendortest
