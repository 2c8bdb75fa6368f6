package testenv

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// private is a server that can be brought down and up again by the same
// command, so on the same port and data.
type private struct {
	mu      sync.Mutex
	command command
	dir     string
	probe   func() error
	process *process
}

// Start brings a stopped or killed server up again and waits until it answers.
// A running one is left alone.
func (p *private) Start(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for {
		err := p.start()
		if err == nil {
			return
		}
		// After a kill the server's children still hold its memory and port
		// for a moment: it ends at once then, and the next try succeeds.
		if !errors.Is(err, errEnded) || time.Now().After(deadline) {
			t.Fatalf("start server again: %v", err)
		}
	}
}

// Stop ends the server in order: it closes its connections and writes its data.
func (p *private) Stop() { p.down(p.command.end) }

// Kill ends the server like kill -9 does: nothing is written or said. Its
// children end with it: a Postgres backend that outlives its postmaster by a
// moment would still answer.
func (p *private) Kill() { p.down(syscall.SIGKILL) }

// Pause freezes the server and its children: connections stay open and nothing
// is answered, as behind a network that drops packets. Resume lets it go on.
func (p *private) Pause() { p.each(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *private) Resume() { p.each(syscall.SIGCONT) }

func (p *private) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process != nil {
		return nil
	}
	process, err := p.command.start()
	if err != nil {
		return err
	}
	if err := process.ready(p.probe); err != nil {
		process.signal(syscall.SIGKILL)
		return err
	}
	p.process = process
	return nil
}

func (p *private) down(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return
	}
	var orphans []int
	if sig == syscall.SIGKILL {
		orphans = p.freeze()
	}
	p.process.signal(sig)
	p.process = nil
	for _, pid := range orphans {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	// Gone, not only told to go: what they hold (port, shared memory) is free.
	for end := time.Now().Add(10 * time.Second); slices.ContainsFunc(orphans, alive) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// freeze stops the server so that it starts no new child behind our back, and
// lists its children.
func (p *private) freeze() []int {
	pid := p.process.cmd.Process.Pid
	_ = syscall.Kill(pid, syscall.SIGSTOP)
	return children(pid)
}

// alive tells whether a process runs; a zombie does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func (p *private) each(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.process == nil {
		return
	}
	pid := p.process.cmd.Process.Pid
	// The parent first: a frozen one starts no new child behind our back.
	_ = syscall.Kill(pid, sig)
	for _, child := range children(pid) {
		_ = syscall.Kill(child, sig)
	}
}

// end stops the server for good and removes its data.
func (p *private) end() {
	p.Resume()
	// The fastest way down: nobody reads the data again.
	p.Kill()
	if p.dir != "" {
		removeData(p.dir)
	}
}

// removeData retries: children of a killed server may write a last file while
// the folder is being emptied.
func removeData(dir string) {
	deadline := time.Now().Add(5 * time.Second)
	for os.RemoveAll(dir) != nil && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
}

// children lists the direct children of a process, from /proc. Empty where
// there is no /proc.
func children(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		// "pid (name) state ppid ...": the name may hold spaces and brackets.
		_, rest, ok := strings.Cut(string(b), ") ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 || fields[1] != fmt.Sprint(parent) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name))); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// refuse ends the test: as missing when the server isn't installed, as a
// failure when it is there but didn't start.
func refuse(t testing.TB, what string, err error) {
	t.Helper()
	if errors.Is(err, ErrMissing) {
		missing(t, what, err)
	}
	t.Fatalf("%s: %v", what, err)
}
