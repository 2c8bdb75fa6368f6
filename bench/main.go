package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	log.SetFlags(0)
	bare := flag.String("bare", "", "internal: serve the file's bytes from a bare Fiber handler")
	addr := flag.String("addr", "", "internal: address of the bare handler")
	rounds := flag.Int("rounds", 5, "rounds of each side")
	length := flag.Duration("length", 2*time.Second, "length of one round")
	out := flag.String("out", "", "write the results as Markdown to this file")
	flag.Parse()
	if *bare != "" {
		log.Fatal(serveBare(*bare, *addr))
	}
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Minute)
	defer cancel()
	report, err := measure(ctx, *rounds, *length)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(report)
	if *out != "" {
		if err := os.WriteFile(*out, []byte(report), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// connections are the loads that each side is measured under.
var connections = []int{1, 32, 256}

func measure(ctx context.Context, rounds int, length time.Duration) (string, error) {
	dir, err := os.MkdirTemp("", "patchbay-bench")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }() // best effort: a temporary folder
	binary := filepath.Join(dir, "sidecar")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./cmd/sidecar")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the sidecar: %w\n%s", err, text)
	}

	side, err := startSidecar(ctx, binary, filepath.Join(dir, "data"))
	if err != nil {
		return "", err
	}
	defer side.stop()
	idle := side.resident()
	body, err := get(ctx, side.url, side.token)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "body.json")
	if err := os.WriteFile(file, body, 0o600); err != nil {
		return "", err
	}
	limit, err := startBare(ctx, file)
	if err != nil {
		return "", err
	}
	defer limit.stop()

	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmark results\n\nOne run on %d cores, %s, %s/%s, %s. Load generator, sidecar and limit share the machine.\n",
		runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, time.Now().UTC().Format("2006-01-02"))
	fmt.Fprintf(&b, "Made by `go run ./bench -out bench/RESULTS.md`; %d rounds of %v a side, in turns.\n\n", rounds, length)
	fmt.Fprintf(&b, "Start to ready (embedded defaults, second start): %d ms. Resident when idle: %.1f MiB.\n\n",
		side.ready.Milliseconds(), float64(idle)/(1<<20))
	b.WriteString("Memory hit with an ES256 JWT against a bare Fiber handler that returns the same bytes:\n\n")
	b.WriteString("| connections | requests/s ratio min | median | max | p99 ratio min | median | max | sidecar req/s | bare req/s |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, n := range connections {
		var rates, tails []float64
		var ours, theirs []float64
		for range rounds {
			a, err := load(side.url, side.token, n, length, body)
			if err != nil {
				return "", fmt.Errorf("load on the sidecar: %w", err)
			}
			c, err := load(limit.url, side.token, n, length, body)
			if err != nil {
				return "", fmt.Errorf("load on the bare handler: %w", err)
			}
			rates = append(rates, a.rate/c.rate)
			tails = append(tails, float64(a.p99)/float64(c.p99))
			ours, theirs = append(ours, a.rate), append(theirs, c.rate)
		}
		for _, s := range [][]float64{rates, tails, ours, theirs} {
			slices.Sort(s)
		}
		m := rounds / 2
		fmt.Fprintf(&b, "| %d | %.3f | %.3f | %.3f | %.2f | %.2f | %.2f | %.0f | %.0f |\n", n,
			rates[0], rates[m], rates[rounds-1], tails[0], tails[m], tails[rounds-1], ours[m], theirs[m])
	}
	return b.String(), nil
}

// process is something that answers at url.
type process struct {
	cmd   *exec.Cmd
	url   string
	token string
	ready time.Duration
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt) // it may have ended already
	_ = p.cmd.Wait()                       // its exit code says nothing about the figures
}

// resident reads the process's resident bytes, 0 where there is no /proc.
func (p *process) resident() int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = ln.Close() }() // only its number was wanted
	return ln.Addr().String(), nil
}

// startSidecar starts `dev` twice, so that the start that counts has its data.
func startSidecar(ctx context.Context, binary, data string) (*process, error) {
	var p *process
	for range 2 {
		if p != nil {
			p.stop()
		}
		var addrs [3]string
		for i := range addrs {
			a, err := freeAddr()
			if err != nil {
				return nil, err
			}
			addrs[i] = a
		}
		cmd := exec.CommandContext(ctx, binary, "dev", "--data-dir", data)
		cmd.Env = append(os.Environ(), "PATCHBAY_LOCAL_LISTEN="+addrs[0], "PATCHBAY_ADMIN_LISTEN="+addrs[1], "PATCHBAY_PROBES_LISTEN="+addrs[2])
		cmd.Stderr = os.Stderr
		began := time.Now()
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		p = &process{cmd: cmd, url: "http://" + addrs[0] + "/v1/resolve/storage"}
		if err := await(ctx, "http://"+addrs[2]+"/readyz"); err != nil {
			p.stop()
			return nil, err
		}
		p.ready = time.Since(began)
	}
	token, err := exec.CommandContext(ctx, binary, "token", "--data-dir", data, "--tenant", "acme", "--org", "acme").Output()
	if err != nil {
		return nil, fmt.Errorf("minting a token: %w", err)
	}
	p.token = string(bytes.TrimSpace(token))
	return p, nil
}

func startBare(ctx context.Context, file string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, "-bare", file, "-addr", addr)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, url: "http://" + addr + "/v1/resolve/storage"}
	return p, await(ctx, p.url)
}

// await polls until the URL answers 200.
func await(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if _, err := get(ctx, url, ""); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s never answered", url)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func get(ctx context.Context, url, token string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", url, res.Status)
	}
	return b, err
}
