// Command sidecar is Patchbay with one more kind compiled in: its package
// registers itself, as a database/sql driver does. Everything else, commands,
// config and data files, is Patchbay's own.
package main

import (
	"os"

	"github.com/patchbay-dev/patchbay/cmd/sidecar/command"

	_ "example.com/acme/patchbay/syslog"
)

func main() { os.Exit(command.Main()) }
