package main

import (
	"math/bits"
	"os/exec"
	"runtime"
	"syscall"
	"unsafe"
)

// halves splits the processors between what is measured and what asks, so that
// neither takes the other's time: the first half and the second. It is 0, 0
// where there is nothing to split.
func halves() (served, asking uint64) {
	var all uint64
	if affinity(syscall.SYS_SCHED_GETAFFINITY, &all) != nil {
		return 0, 0
	}
	n := bits.OnesCount64(all) / 2
	if n == 0 {
		return 0, 0
	}
	for rest := all; n > 0; n-- {
		lowest := rest & -rest
		served |= lowest
		rest &^= lowest
	}
	return served, all &^ served
}

// startOn starts cmd on these processors only (0: any). A child inherits the
// mask of the thread that makes it, and Go sizes itself by it.
func startOn(cmd *exec.Cmd, mask uint64) error {
	// Whatever ends this process, nothing that it started stays.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if mask == 0 {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before uint64
	if err := affinity(syscall.SYS_SCHED_GETAFFINITY, &before); err != nil {
		return err
	}
	if err := affinity(syscall.SYS_SCHED_SETAFFINITY, &mask); err != nil {
		return err
	}
	err := cmd.Start()
	if restored := affinity(syscall.SYS_SCHED_SETAFFINITY, &before); err == nil {
		err = restored
	}
	return err
}

// affinity reads or sets the calling thread's mask, of the first 64 processors.
func affinity(call uintptr, mask *uint64) error {
	_, _, errno := syscall.RawSyscall(call, 0, unsafe.Sizeof(*mask), uintptr(unsafe.Pointer(mask)))
	if errno != 0 {
		return errno
	}
	return nil
}
