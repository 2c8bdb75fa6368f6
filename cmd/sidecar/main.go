package main

import (
	"os"

	"github.com/patchbay-dev/patchbay/cmd/sidecar/command"
)

func main() { os.Exit(command.Main()) }
