// Package command holds the commands of the sidecar and their wiring: flags and
// config flow in, the packages that do the work are put together, signals and
// exit codes come out.
//
// It may import everything. Who imports it is a main package: cmd/sidecar, and
// those that compile kinds of their own in by a blank import (see
// docs/provider-guide.md). [Main] is all they need.
package command
