// Package webhook is the kind webhook: an address of the tenant's that apps post
// signed events to.
//
// The kind is declared: kind.yaml beside this file says what it wants to know and
// how it is tested, and package httpkind makes the provider of it. A receiver may
// act on any request, so that below level 3 the test connects and asks nothing.
package webhook
