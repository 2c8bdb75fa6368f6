// Package httpapi is every HTTP surface of Patchbay: the local API that apps
// call, the admin listener, probes and metrics, and the one table that turns a
// fault into a problem (RFC 9457). It is the sole home of Fiber.
//
// Requests flow in through a guard that takes localhost for hostile, an Env
// comes from a verifier, an answer from a resolver, and bytes go out. Nothing is
// decided here but what HTTP itself is about: who may answer is the resolver's,
// what a token means is package tenant's. The package imports resolver,
// connector, providers, tenant and internal leaves; only cmd imports it.
//
// Fiber's strings live in the request's buffer. Whatever leaves a handler (a
// cache, a goroutine, a log line that is written later) is copied first.
package httpapi
