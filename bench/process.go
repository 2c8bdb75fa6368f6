package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

// patience bounds every wait for something to happen, far above what it takes.
const patience = 30 * time.Second

// process is a running program that answers at addr.
type process struct {
	h            *host
	cmd          *exec.Cmd
	addr, probes string
	began        time.Time
	done         chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

// Write keeps what the process says, for the message when it fails.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.log.String()
	return s[max(0, len(s)-2000):]
}

// start runs a program in a clean environment on the given processors.
func (h *host) start(mask uint64, env []string, name string, args ...string) *process {
	p := &process{h: h, cmd: exec.Command(name, args...), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = append([]string{"HOME=" + h.dir, "PATH=/usr/bin:/bin"}, env...), h.dir
	p.cmd.Stdout, p.cmd.Stderr = p, p
	p.began = time.Now()
	h.must(startOn(p.cmd, mask))
	go func() { _ = p.cmd.Wait(); close(p.done) }() // its exit code says nothing about the figures
	h.Cleanup(p.stop)
	return p
}

// sidecar runs a command of the sidecar with listeners of its own.
func (w *world) sidecar(mask uint64, config, command string) *process {
	addr := func() string { return fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(w)) }
	local, probes := addr(), addr()
	p := w.start(mask, []string{"PATCHBAY_LOCAL_LISTEN=" + local, "PATCHBAY_ADMIN_LISTEN=" + addr(), "PATCHBAY_PROBES_LISTEN=" + probes},
		w.binary, command, "--config", config)
	p.addr, p.probes = local, probes
	return p
}

// stop ends the process in order and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// answers waits until url says 200 and returns how long after the start it was.
func (p *process) answers(url string) time.Duration {
	for {
		if code, _, _, err := get(p.h.ctx, url, ""); err == nil && code == http.StatusOK {
			return time.Since(p.began)
		}
		select {
		case <-p.done:
			p.h.Fatalf("%s ended:\n%s", filepath.Base(p.cmd.Path), p.said())
		case <-time.After(time.Millisecond):
		}
		if time.Since(p.began) > patience || p.h.ctx.Err() != nil {
			p.h.Fatalf("%s never answered:\n%s", filepath.Base(p.cmd.Path), p.said())
		}
	}
}

func (p *process) ready() time.Duration { return p.answers("http://" + p.probes + "/readyz") }

// connected waits until the change feed proves to be whole.
func (p *process) connected() {
	p.ready()
	p.h.eventually("the sidecar is connected", func() bool { return p.metrics()["patchbay_feed_connected"] == 1 })
}

func (h *host) eventually(what string, done func() bool) {
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) || h.ctx.Err() != nil {
			h.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// metrics are all samples of /metrics by name and labels.
func (p *process) metrics() map[string]float64 {
	_, _, body, err := get(p.h.ctx, "http://"+p.probes+"/metrics", "")
	p.h.must(err)
	out := make(map[string]float64)
	for line := range strings.Lines(string(body)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			out[name] = v
		}
	}
	return out
}

// residency is a process's resident memory, in MiB: all of it, and the part
// that is not the program's own file.
type residency struct{ all, anonymous float64 }

func (p *process) resident() residency {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	p.h.must(err)
	return residency{kib(string(b), "VmRSS:") / 1024, kib(string(b), "RssAnon:") / 1024}
}

// kib reads a line such as "VmRSS:  1234 kB" of a file below /proc.
func kib(text, name string) float64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			v, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return v
		}
	}
	return 0
}

// cpu is the processor time that the process has taken so far: the sum over
// its threads, which the kernel counts in nanoseconds.
func (p *process) cpu() time.Duration {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	var sum time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		fields := strings.Fields(string(b))
		if len(fields) > 0 {
			n, _ := strconv.ParseInt(fields[0], 10, 64)
			sum += time.Duration(n)
		}
	}
	return sum
}

// client has no proxy, whatever the environment says.
var client = &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func get(ctx context.Context, url, token string) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, body, err
}

// resolve asks for a backend and insists on one. It returns the body and where
// the answer came from.
func (p *process) resolve(category, token string) (body []byte, header http.Header) {
	code, header, body, err := get(p.h.ctx, "http://"+p.addr+"/v1/resolve/"+category, token)
	p.h.must(err)
	if code != http.StatusOK {
		p.h.Fatalf("resolve %s: %d %s", category, code, body)
	}
	return body, header
}
