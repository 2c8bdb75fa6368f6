// Command vaultserver is the Vault that the tests run against. Flags flow in, and
// Vault's own HTTP API is what comes out: testenv builds it once, starts it and
// talks to it as to any other. It imports nothing of Patchbay. The built program
// is kept by a digest of go.mod, go.sum and main.go; this file is no part of it.
package main
