package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// startLimit bounds every wait for a server to come up. It is far above what a
// start takes, because two cores may be busy with a whole test run.
const startLimit = 60 * time.Second

// spawn runs f on the one thread that starts every server. The kernel's
// parent-death signal is tied to the starting thread, not to the process:
// a goroutine's ordinary thread may end in the middle of a test run and take
// the servers with it.
var spawn = sync.OnceValue(func() func(func() error) error {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return func(f func() error) error {
		done := make(chan error, 1)
		work <- func() { done <- f() }
		return <-done
	}
})

// process is one running server. Its methods are safe for concurrent use.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	err  error
}

// command describes how a server is started, and started again.
type command struct {
	bin     string
	args    []string
	dir     string // private folder: working files and the log
	demoted bool   // the server refuses root: run it as another user
	env     []string
	end     syscall.Signal // what asks it to end at once but in order
}

// start runs the command and returns at once; readiness is the caller's.
func (c command) start() (*process, error) {
	logName := filepath.Join(c.dir, "server.log")
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	defer log.Close()

	cmd := exec.Command(c.bin, c.args...)
	cmd.Stdout, cmd.Stderr = log, log
	// A server inherits nothing: PG* and REDIS* variables of the developer's
	// shell would otherwise change what is tested.
	cmd.Env = append([]string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "HOME=" + c.dir}, c.env...)
	cmd.Dir = c.dir
	cmd.SysProcAttr = sysProcAttr(c.end)
	if c.demoted {
		cmd.SysProcAttr.Credential = demotion()
	}
	if err := spawn()(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.bin, err)
	}
	p := &process{cmd: cmd, log: logName, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Start starts a command of the test's own that ends when this process does,
// also when that is killed or runs out of time: no cleanup runs then. (Only
// Linux can; elsewhere it is cmd.Start.) Waiting for it is the caller's.
func Start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = sysProcAttr(syscall.SIGKILL)
	return spawn()(cmd.Start)
}

// ready polls probe until it answers nil, the server ends or the time is up.
func (p *process) ready(probe func() error) error {
	deadline := time.Now().Add(startLimit)
	for {
		err := probe()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v: %w\n%s", startLimit, err, p.tail())
		}
		select {
		case <-p.done:
			return fmt.Errorf("%w: %v\n%s", errEnded, p.err, p.tail()) //nolint:errorlint // it is nil when the server ended with code 0
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// errEnded: the server ended before it was ready, often because another
// process took its port in between.
var errEnded = errors.New("server ended while starting")

// signal ends the server with sig and waits until it is gone.
func (p *process) signal(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig)
	// A stopped (SIGSTOP) server takes no other signal until it goes on.
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// tail is the end of the server's log, for messages.
func (p *process) tail() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
}

// demotion is the user for servers that refuse root; nil when we aren't root.
func demotion() *syscall.Credential {
	if os.Geteuid() != 0 {
		return nil
	}
	if u, err := user.Lookup("postgres"); err == nil {
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	// nobody: needs no entry in the user database.
	return &syscall.Credential{Uid: 65534, Gid: 65534}
}
