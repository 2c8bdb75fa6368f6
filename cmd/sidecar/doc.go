// Command sidecar is Patchbay's one binary: the data plane beside each app
// (serve), the control plane (admin), everything in one process on embedded
// defaults (dev), and the operator's tools.
//
// It is package command and nothing else, so that a program with kinds of its own
// can be the same program: it blank-imports their packages and calls
// command.Main. It may import that package alone; nothing imports it.
package main
