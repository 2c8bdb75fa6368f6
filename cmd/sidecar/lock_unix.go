//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// errLocked: another process holds the data dir.
var errLocked = errors.New("is in use by another sidecar")

// lockDir takes an exclusive lock that ends with the process.
func lockDir(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data dir %s cannot be written: %w", filepath.Dir(path), err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, fmt.Errorf("the data dir %s %w: stop it, or give --data-dir", filepath.Dir(path), errLocked)
	}
	return func() { _ = f.Close() }, nil // closing releases the lock
}

// owner is the user that a file belongs to.
func owner(info os.FileInfo) uint32 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Uid
	}
	return ^uint32(0)
}
