// Package vault keeps secrets: the [Store] contract, the function that turns a
// reference into a path, and the HashiCorp client (KV version 2).
//
// Bundles flow in by [Store.Write], each to a path of its own that is never
// written again, and out by [Store.Read]. Grants (OAuth2 refresh tokens) are
// the one exception: a single path per connector, written with
// check-and-set. The package is the sole home of hashicorp/vault/api; sealed is
// the embedded implementation, vaulttest the suite that both pass. It imports
// connector, tenant and internal packages.
package vault
