// Package fault is the one error taxonomy of Patchbay.
//
// Every error that crosses a package boundary carries a [Code], a message that
// is safe to show to the caller who caused it, and a private cause that only
// logs see. Adapters (Postgres, Redis, Vault, JWKS) classify once, where the
// SDK is known; nobody above them imports an SDK's error types. The HTTP edge
// (package httpapi) is the only place that turns a code into a status.
//
// The package imports nothing of the project, so that everything may import it.
package fault
