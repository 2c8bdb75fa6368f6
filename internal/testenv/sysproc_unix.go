//go:build unix && !linux

package testenv

import "syscall"

// sysProcAttr: only Linux ends a child with its parent. Elsewhere Main stops
// the servers, and a killed test process leaves them running.
func sysProcAttr(syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{}
}
