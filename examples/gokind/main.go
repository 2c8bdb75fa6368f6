package main

import (
	"os"

	"github.com/patchbay-dev/patchbay/cmd/sidecar/command"

	_ "example.com/acme/patchbay/syslog"
)

func main() { os.Exit(command.Main()) }
