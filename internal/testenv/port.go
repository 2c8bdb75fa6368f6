package testenv

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Ports lie below the range that Linux gives to outgoing connections, so that
// none of those can sit on a port while its server is down for a restart.
const (
	firstPort = 18000
	lastPort  = 31999
)

// reservePort picks a loopback port that is free and that no other test
// process picks, for as long as this process lives. The reservation is a locked
// file: a port found by listening and closing is anybody's the moment after.
func reservePort() (int, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("patchbay-ports-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 0, fmt.Errorf("make port folder: %w", err)
	}
	for range 500 {
		port := firstPort + rand.IntN(lastPort-firstPort+1)
		file, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(port)), os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return 0, fmt.Errorf("open port reservation: %w", err)
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			file.Close()
			continue
		}
		if !Free(fmt.Sprintf("127.0.0.1:%d", port)) {
			file.Close()
			continue
		}
		env.keep(file)
		return port, nil
	}
	return 0, errors.New("no free port found")
}

// Free tells whether nothing listens on an address. It holds forks up meanwhile:
// a child has a copy of each open socket until it runs its program, and would
// keep the probe's alive after its close.
func Free(address string) bool {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	l, err := net.Listen("tcp", address)
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// FreePort reserves a loopback port that nothing listens on and that no other
// caller of testenv gets while this process lives.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := reservePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
