package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// machine says what the figures were got on: what matters for them, and
// nothing that names the machine.
func (w *world) machine(at time.Time) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("Made by `%s` at %s, commit %s. Loopback only; servers, rivals and load generator share the machine.",
		invocation(), at.UTC().Format("2006-01-02 15:04 UTC"), commit(w))
	line("Figures are ratios to a rival, or counters, of one run. Rounds are min / median / max.\n")
	line("- Processors: %d x %s; memory %.0f GiB; %s", runtime.NumCPU(), processor(), memoryTotal(), kernel())
	line("- Go %s, Fiber %s, fasthttp %s", strings.TrimPrefix(runtime.Version(), "go"), module("github.com/gofiber/fiber/v2"), module("github.com/valyala/fasthttp"))
	conn, err := pgx.Connect(w.ctx, w.db.owner)
	w.must(err)
	defer func() { _ = conn.Close(w.ctx) }() // only read from
	var postgres string
	w.must(conn.QueryRow(w.ctx, "SHOW server_version").Scan(&postgres))
	info, err := w.redis.Command("INFO", "server")
	w.must(err)
	_, redis, _ := strings.Cut(fmt.Sprint(info), "redis_version:")
	redis, _, _ = strings.Cut(redis, "\r")
	vault, _ := w.vault.Do(w, "GET", "sys/health", nil)["version"].(string)
	line("- PostgreSQL %s, Redis %s, Vault %s", postgres, redis, vault)
	line("- Load average of the machine at the beginning: %s (other work on it shows in the spreads)", loadAverage())
	return b.String()
}

// invocation is the command without the files that it writes.
func invocation() string {
	command := "go run ./bench"
	flag.Visit(func(f *flag.Flag) {
		if f.Name != "out" && f.Name != "profile" {
			command += " -" + f.Name + "=" + f.Value.String()
		}
	})
	return command
}

func commit(w *world) string {
	git := func(args ...string) string {
		out, err := exec.CommandContext(w.ctx, "git", args...).Output()
		if err != nil {
			return "unknown"
		}
		return strings.TrimSpace(string(out))
	}
	c := git("rev-parse", "--short=12", "HEAD")
	if git("status", "--porcelain", "--untracked-files=no", "--", ":!bench/RESULTS.md") != "" {
		c += " with changes"
	}
	return c
}

func module(path string) string {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return "unknown"
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return string(b)
}

func processor() string {
	for line := range strings.Lines(read("/proc/cpuinfo")) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, "\t :"))
		}
	}
	return runtime.GOARCH
}

func memoryTotal() float64 { return kib(read("/proc/meminfo"), "MemTotal:") / (1 << 20) }

func kernel() string {
	fields := strings.Fields(read("/proc/version"))
	if len(fields) < 3 {
		return runtime.GOOS
	}
	return fields[0] + " " + fields[2]
}

func loadAverage() string {
	fields := strings.Fields(read("/proc/loadavg"))
	if len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}
