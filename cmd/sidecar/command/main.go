package command

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Main runs the program with the process's arguments, environment and streams,
// and returns its exit code: 0 done, 1 failed, 2 wrong usage or config. SIGINT and
// SIGTERM drain; a second one ends the process at once.
//
//	package main
//
//	import (
//		"os"
//
//		_ "example.com/acme/kinds/pigeon"
//		"github.com/patchbay-dev/patchbay/cmd/sidecar/command"
//	)
//
//	func main() { os.Exit(command.Main()) }
func Main() int {
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		// The first signal drains; with the handler gone, a second one ends at once.
		// It is gone before the drain begins: whoever sees the drain may signal.
		signal.Stop(signals)
		drain()
	}()
	return run(ctx, os.Args[1:], streams{in: os.Stdin, out: os.Stdout, err: os.Stderr}, os.Environ())
}
