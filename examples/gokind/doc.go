// Command sidecar is Patchbay with one more kind compiled in: its package
// registers itself, as a database/sql driver does. Everything else, commands,
// config and data files, is Patchbay's own.
//
// The module is what docs/provider-guide.md walks through. It imports Patchbay's
// package cmd/sidecar/command here, and package providers in the kind.
package main
