// Package tenanttest gives tests their Envs the only way there is: by signing
// a token and verifying it.
//
// It imports package tenant and its dev issuer, and is imported by tests only.
package tenanttest
