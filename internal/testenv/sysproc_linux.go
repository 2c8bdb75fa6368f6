package testenv

import "syscall"

// sysProcAttr lets the server end with the test process, also when that is
// killed: nothing else would stop it then.
func sysProcAttr(end syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: end}
}
