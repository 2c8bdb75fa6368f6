package testenv_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

// victimEnv is set in the process that TestKilledRunLeavesNothing kills.
const victimEnv = "PATCHBAY_TEST_VICTIM"

// TestVictim starts servers and hangs, but only as the victim.
func TestVictim(t *testing.T) {
	if os.Getenv(victimEnv) == "" {
		return
	}
	pg, private, redis := testenv.Postgres(t), testenv.NewPostgres(t), testenv.NewRedis(t)
	fmt.Println("ports", pg.Port, private.Port, redis.Port)
	select {}
}

// A test run that is killed takes its servers with it, and the next one removes
// what they wrote.
func TestKilledRunLeavesNothing(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestVictim$", "-test.v")
	cmd.Env = append(os.Environ(), victimEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var ports []string
	for lines := bufio.NewScanner(out); ports == nil && lines.Scan(); {
		if _, rest, ok := strings.Cut(lines.Text(), "ports "); ok {
			ports = strings.Fields(rest)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if len(ports) != 3 {
		t.Fatal("the victim started nothing")
	}
	answers := func(port string) bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	end := time.Now().Add(30 * time.Second)
	for _, port := range ports {
		for answers(port) {
			if time.Now().After(end) {
				t.Fatalf("a server still listens on %s", port)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	// A server that shuts down in order may write for a moment more, so that one
	// sweep can be too early.
	for {
		testenv.NewRedis(t)
		left, err := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("patchbay-testenv-%d-*", cmd.Process.Pid)))
		if err != nil || len(left) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("left behind: %v", left)
		}
	}
}

// Everything listens on loopback only, and servers that start side by side get
// what is theirs.
func TestParallelStarts(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[int]bool{}
	for range 6 {
		wg.Go(func() {
			port := testenv.NewRedis(t).Port
			mu.Lock()
			defer mu.Unlock()
			if seen[port] {
				t.Errorf("port %d was given twice", port)
			}
			seen[port] = true
		})
	}
	pg := testenv.NewPostgres(t)
	wg.Wait()
	seen[pg.Port] = true
	sockets, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	for port := range seen {
		where := fmt.Sprintf(":%04X 00000000:0000 0A", port) // 0A: listening
		for line := range strings.Lines(string(sockets)) {
			if strings.Contains(line, where) && !strings.Contains(line, "0100007F"+where) {
				t.Errorf("port %d listens beyond loopback: %s", port, line)
			}
		}
		if !strings.Contains(string(sockets), "0100007F"+where) {
			t.Errorf("port %d does not listen", port)
		}
	}
	if six, err := os.ReadFile("/proc/net/tcp6"); err == nil {
		for port := range seen {
			if strings.Contains(string(six), fmt.Sprintf("00000000000000000000000000000000:%04X 00000000000000000000000000000000:0000 0A", port)) {
				t.Errorf("port %d listens on all of IPv6", port)
			}
		}
	}
}
