// Command sidecar is Patchbay's one binary: the data plane beside each app
// (serve), the control plane (admin), everything in one process on embedded
// defaults (dev), and the operator's tools.
//
// The package holds commands and wiring only: flags and config flow in, the
// packages that do the work are put together, signals and exit codes come out.
// It may import everything; nothing imports it.
package main
