package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// kill -9 of the relay and of a sidecar, while a tenant changes: every
// acknowledged write is served by what runs afterwards.
func TestKilledServers(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	admin := f.control()
	p := f.newPair("initech")
	s, other := f.serve(), f.serve()
	w := p.watch(1, nil, other)
	for n := 1; n <= 4; n++ {
		var wg sync.WaitGroup
		wg.Go(admin.kill)
		wg.Go(s.kill)
		committed := p.write(n)
		wg.Wait()
		s.begin()
		s.ready()
		// Without a relay nothing is connected, but whoever asks anew gets the truth.
		if got := p.is(s); got != n {
			t.Errorf("a new sidecar answers %d, not %d", got, n)
		}
		admin.begin()
		admin.ready()
		other.connected()
		p.heard(other, n, committed)
	}
	w.end()
}

// With every relay gone, killed or hanging, nobody tells of a change. A sidecar
// notices the silence and is right again within its ttl.
func TestRelayIsGone(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "hanging": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const ttl = 3 * time.Second
			f := newFleet(t, options{cache: "{ttl: 3s, negative_ttl: 3s}"})
			admin := f.control()
			p := f.newPair("initech")
			s := f.serve()
			p.heard(s, 0, time.Now())
			w := p.watch(1, nil, s)
			p.login = "importer" // may not relay
			if err := admin.cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			committed := p.write(1)
			f.eventually("the change is served", func() bool {
				asked, n := time.Now(), p.is(s)
				if n == 0 && asked.Sub(committed) > ttl+250*time.Millisecond {
					t.Fatalf("the old answer is served %s after the change", asked.Sub(committed))
				}
				return n == 1
			})
			f.eventually("the sidecar knows that it is cut off", func() bool { return s.metric("patchbay_feed_connected") == 0 })
			if code := s.probe("/readyz"); code != http.StatusOK {
				t.Errorf("readyz %d: only latency is lost", code)
			}
			if sig == syscall.SIGSTOP {
				_ = admin.cmd.Process.Signal(syscall.SIGCONT)
			} else {
				admin.kill()
				admin.begin()
			}
			s.connected()
			p.heard(s, 2, p.write(2))
			w.end()
		})
	}
}

// An import that is killed between any two of its steps leaves all of its file
// or nothing of it, what was there stays resolvable, and the next import
// completes it.
func TestKilledImport(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	s := f.serve()
	const tenants = 3
	for _, row := range []struct {
		name string
		// arm prepares the moment of the kill, and returns more environment.
		arm       func(t *testing.T, f *fleet, kill func()) (env []string)
		committed bool // else it must not be
	}{
		{"before the first secret", func(t *testing.T, f *fleet, kill func()) []string {
			return killAtSecret(t, f, 1, true, kill)
		}, false},
		{"after the first secret", func(t *testing.T, f *fleet, kill func()) []string {
			return killAtSecret(t, f, 1, false, kill)
		}, false},
		{"before the last secret", func(t *testing.T, f *fleet, kill func()) []string {
			return killAtSecret(t, f, tenants, true, kill)
		}, false},
		{"inside the transaction", func(t *testing.T, f *fleet, kill func()) []string {
			// The outbox is written last; while it is locked the rest is done but not
			// committed.
			conn := f.superuser()
			tx, err := conn.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "LOCK TABLE outbox IN EXCLUSIVE MODE"); err != nil {
				t.Fatal(err)
			}
			go func() {
				defer conn.Close(context.Background())
				defer tx.Rollback(context.Background()) // frees the lock
				watcher := f.superuser()
				defer watcher.Close(context.Background())
				for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					var waiting bool
					if err := watcher.QueryRow(context.Background(), `SELECT EXISTS (SELECT FROM pg_locks
						WHERE relation = 'outbox'::regclass AND NOT granted)`).Scan(&waiting); err != nil || waiting {
						break
					}
				}
				kill()
			}()
			return nil
		}, false},
		{"after the commit", func(t *testing.T, f *fleet, kill func()) []string {
			// Redis is first spoken to when there is something to announce.
			address := dialled(t, f.redis.Addr, kill)
			return []string{"PATCHBAY_REDIS_URL_FILE=" + f.file("gate", "redis://"+address+"/0")}
		}, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			name := strings.ReplaceAll(row.name, " ", "-")
			var pairs []*pair
			file := func(n int) string {
				var records strings.Builder
				for i := range tenants {
					body := bucketFile(fmt.Sprintf("%s-%d", name, i), n)
					body = strings.TrimPrefix(body, "<patchbay><data>")
					records.WriteString(strings.TrimSuffix(strings.TrimSpace(body), "</data></patchbay>"))
				}
				return f.file(name+".xml", "<patchbay>"+records.String()+"</patchbay>")
			}
			f.importFile(file(0)).ok(t)
			for i := range tenants {
				id := fmt.Sprintf("%s-%d", name, i)
				pairs = append(pairs, &pair{f: f, tenant: id, token: f.token(id, "hq")})
			}
			numbers := func() (all []int) {
				for _, p := range pairs {
					all = append(all, p.is(s))
				}
				return all
			}
			if got := numbers(); fmt.Sprint(got) != "[0 0 0]" {
				t.Fatal(got)
			}

			var victim *process
			started := make(chan struct{})
			kill := func() { <-started; victim.kill() }
			env := row.arm(t, f, kill)
			victim = f.start(env, "import", "--config", f.config("admin", "admin", ""), file(1))
			close(started)
			select {
			case <-victim.done:
			case <-time.After(patience):
				t.Fatal("the import is still there")
			}
			if victim.cmd.ProcessState.ExitCode() != -1 { // by a signal
				t.Fatalf("the import ended by itself:\n%s", victim.output())
			}
			if row.committed {
				// Nobody announced it but the relay.
				f.eventually("what was committed is served", func() bool { return fmt.Sprint(numbers()) == "[1 1 1]" })
			} else {
				fresh := f.start(nil, "serve", "--config", f.config("sidecar", "sidecar", ""))
				fresh.ready()
				for _, asked := range []*process{s, fresh} {
					for _, p := range pairs {
						if n := p.is(asked); n != 0 {
							t.Errorf("%s: half an import is served: %d", p.tenant, n)
						}
					}
				}
				fresh.kill()
			}
			out := f.importFile(file(1)).ok(t).out
			if unchanged := strings.Contains(out, "0 to create, 0 to update"); unchanged != row.committed {
				t.Errorf("the next import's plan:\n%s", out)
			}
			f.eventually("the next import is served", func() bool { return fmt.Sprint(numbers()) == "[1 1 1]" })
		})
	}
}

// killAtSecret kills when Vault is given its nth secret: before it has it, or
// once it has.
func killAtSecret(t *testing.T, f *fleet, nth int64, before bool, kill func()) []string {
	gate := newVaultGate(t, f)
	do := func(r *http.Request) int {
		passed := gate.writes.Load()
		if before {
			passed++
		}
		if isSecret(r) && r.Method != http.MethodGet && passed == nth {
			kill()
			return http.StatusServiceUnavailable // to nobody
		}
		return 0
	}
	if before {
		gate.before.Store(&do)
	} else {
		gate.after.Store(&do)
	}
	return []string{gate.env()}
}

// On SIGTERM a sidecar is not ready but live, finishes what is in flight, and
// leaves with 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.control()
	p := f.newPair("initech")
	gate := newVaultGate(t, f)
	asked, answer := make(chan struct{}), make(chan struct{})
	arrive, release := sync.OnceFunc(func() { close(asked) }), sync.OnceFunc(func() { close(answer) })
	t.Cleanup(release) // the gate's end waits for whom it holds
	hold := func(r *http.Request) int {
		if isSecret(r) {
			arrive()
			<-answer
		}
		return 0
	}
	gate.before.Store(&hold)
	s := f.serve(gate.env(), "PATCHBAY_LOCAL_DEADLINE=20s")
	got := make(chan error, 1)
	go func() {
		a, err := s.try("/v1/resolve/storage", p.token)
		if err == nil && a.code != http.StatusOK {
			err = fmt.Errorf("%d %s", a.code, a.body)
		}
		got <- err
	}()
	<-asked
	exit := make(chan int, 1)
	go func() { exit <- s.stop() }()
	f.eventually("not ready", func() bool {
		if !s.alive() {
			t.Fatalf("left with a request in flight:\n%s", s.output())
		}
		return s.probe("/readyz") == http.StatusServiceUnavailable
	})
	if code := s.probe("/livez"); code != http.StatusOK {
		t.Errorf("livez %d while draining", code)
	}
	release()
	if err := <-got; err != nil {
		t.Errorf("the request in flight: %v", err)
	}
	if code := <-exit; code != 0 {
		t.Errorf("exit %d\n%s", code, s.output())
	}
	if !strings.Contains(s.output(), "draining") {
		t.Errorf("no word of the drain:\n%s", s.output())
	}
}

// A Unix socket serves what loopback does, survives a kill -9 of its owner, and
// is nobody's but its user's and group's.
func TestUnixSocket(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	p := f.newPair("initech")
	dir, err := os.MkdirTemp("", "pb") // a socket's path may have 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // at the end of a test
	socket := filepath.Join(dir, "s")
	s := f.start([]string{"PATCHBAY_LOCAL_SOCKET=" + socket}, "serve", "--config", f.config("sidecar", "sidecar", ""))
	for range 2 {
		s.ready()
		info, err := os.Stat(socket)
		if err != nil || info.Mode().Perm() != 0o660 {
			t.Fatal(info, err)
		}
		a, err := s.tryWith(t.Context(), unixClient(socket), "/v1/resolve/storage", p.token)
		if err != nil || a.code != http.StatusOK {
			t.Fatalf("%d %s %v", a.code, a.body, err)
		}
		if n, err := number(a); n != 0 || err != nil {
			t.Error(n, err)
		}
		s.kill()
		s.begin()
	}
}
