package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

// built is the real program, made once for all tests that need a process.
var built struct {
	once sync.Once
	dir  string
	err  error
}

func build() error {
	// Not a test's folder: another user runs it too, and it outlives the test.
	var err error
	if built.dir, err = os.MkdirTemp("", "patchbay-binary-"); err != nil {
		return err
	}
	if err := os.Chmod(built.dir, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("go", "build", "-o", built.dir, ".").CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

func binary(t testing.TB) string {
	t.Helper()
	built.once.Do(func() { built.err = build() })
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "sidecar")
}

// process is the real program.
type process struct {
	out, err *text
	cmd      *exec.Cmd
	gone     chan struct{}
}

// launch starts the real program; it is killed when the test ends.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{out: &text{}, err: &text{}, cmd: exec.Command(binary(t), args...), gone: make(chan struct{})}
	p.cmd.Env = append(slices.Clip(env), "PATH="+os.Getenv("PATH"))
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.err
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the state says how it ended
		close(p.gone)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // gone already, as a rule
		<-p.gone
	})
	return p
}

// until waits for something that needs the process.
func (p *process) until(t testing.TB, what string, done func() bool) {
	t.Helper()
	eventually(t, what, func() bool {
		select {
		case <-p.gone:
			t.Fatalf("not yet: %s, and the process ended: %s\n%s", what, p.cmd.ProcessState, p.err.String())
		default:
		}
		return done()
	})
}

func (p *process) ready(t testing.TB, probes string) {
	t.Helper()
	p.until(t, "ready at "+probes, func() bool {
		code, _ := get(t, "http://"+probes+"/readyz", "")
		return code == http.StatusOK
	})
}

// spawn starts the real dev on d's ports and data and waits until it is ready.
func (d *devProcess) spawn(t testing.TB, env ...string) *process {
	t.Helper()
	p := launch(t, d.environment(env...), "dev", "--data-dir", d.dir)
	p.ready(t, d.probes)
	return p
}

func (p *process) signal(t testing.TB, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (p *process) ended(t testing.TB) *os.ProcessState {
	t.Helper()
	select {
	case <-p.gone:
	case <-time.After(patience):
		t.Fatalf("the process does not end:\n%s", p.err.String())
	}
	return p.cmd.ProcessState
}

// What a banner's reader pastes works, in a shell, as it stands.
func TestTheBannersCurlLine(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	p := d.spawn(t)
	var line string
	for s := bufio.NewScanner(strings.NewReader(p.out.String())); s.Scan(); {
		if text := strings.TrimSpace(s.Text()); strings.HasPrefix(text, "curl ") {
			line = text
			break
		}
	}
	out, err := exec.Command("sh", "-c", line).Output()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	for _, want := range []string{`"bucket":"acme-prod"`, `"access_key_id":"demo-s3-key"`, `"secret_access_key":"demo-s3-secret"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the answer lacks %s: %s", want, out)
		}
	}
}

// kill -9 loses nothing that was acknowledged, and leaves nothing in the way.
func TestDevSurvivesKill(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	p := d.spawn(t)
	file := write(t, filepath.Join(t.TempDir(), "f.xml"), bucketFile("bucket-1", "s1"))
	command(t, nil, "import", "--data-dir", d.dir, file).ok(t)
	token := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "initech", "--org", "hq").ok(t).out)
	first := d.resolve(t, token, "storage")
	p.signal(t, syscall.SIGKILL)
	p.ended(t)

	// Its socket is dead and its lock is free: a command works on the data itself.
	write(t, file, bucketFile("bucket-2", "s2"))
	command(t, nil, "import", "--data-dir", d.dir, file).ok(t)
	d.spawn(t)
	b := d.resolve(t, token, "storage") // the issuer's key is the same
	if b.Connector.ID != first.Connector.ID || b.Config["bucket"] != "bucket-2" || b.Config["secret_access_key"] != "s2" {
		t.Errorf("%+v, before %+v", b, first)
	}
}

// Killed at any moment of its first start, dev starts again as if for the first
// time: everything is there.
func TestDevKilledWhileItStarts(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	for n := range 8 {
		cmd := exec.Command(binary(t), "dev", "--data-dir", d.dir)
		cmd.Env = d.environment()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(5+n*8) * time.Millisecond) // any moment will do
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	}
	p := d.spawn(t)
	if b := d.resolve(t, jwtPattern.FindString(p.out.String()), "storage"); b.Config["bucket"] != "acme-prod" {
		t.Errorf("%+v", b)
	}
	globex := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "globex", "--org", "globex").ok(t).out)
	d.resolve(t, globex, "storage")
}

// A connection that is kept alive and idle holds nobody up.
func TestSignalEndsDev(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": os.Interrupt} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDev(t)
			p := d.spawn(t)
			client := http.Client{Transport: &http.Transport{}} // keeps its connection
			defer client.CloseIdleConnections()
			res, err := client.Get("http://" + d.local + "/v1/env")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			p.signal(t, s)
			if state := p.ended(t); state.ExitCode() != exitDone {
				t.Errorf("%s\n%s", state, p.err.String())
			}
			if _, err := net.Dial("tcp", d.local); err == nil {
				t.Error("somebody still listens")
			}
		})
	}
}

// A request is in flight: the drain waits for it, a second signal does not.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	pg := testenv.NewPostgres(t)
	i := install(t, pg)
	i.fill()
	local, probes := freeAddress(t), freeAddress(t)
	p := launch(t, []string{
		"PATCHBAY_LOCAL_LISTEN=" + local, "PATCHBAY_PROBES_LISTEN=" + probes, "PATCHBAY_LOCAL_DEADLINE=2m", "PATCHBAY_DRAIN=10m",
	}, "serve", "--config", i.config)
	p.ready(t, probes)
	pg.Pause()
	defer pg.Resume()
	answered := make(chan int, 1)
	token := i.kit.Token(tenanttest.Claims{Tenant: "acme", Organization: "acme"})
	go func() {
		code, _ := get(t, "http://"+local+"/v1/resolve/storage", token)
		answered <- code
	}()
	p.until(t, "the request is in flight", func() bool {
		_, metrics := get(t, "http://"+probes+"/metrics", "")
		return strings.Contains(metrics, "patchbay_database_reads_total 1")
	})
	p.signal(t, syscall.SIGTERM)
	p.until(t, "it drains", func() bool {
		code, _ := get(t, "http://"+probes+"/readyz", "")
		return code == http.StatusServiceUnavailable
	})
	p.signal(t, syscall.SIGTERM)
	if status := p.ended(t).Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Errorf("%s", p.cmd.ProcessState)
	}
	if code := <-answered; code != 0 {
		t.Errorf("the request was answered with %d: nothing was in flight", code)
	}
}

// asNobody runs the program without root's rights, which no mode binds.
func asNobody(t testing.TB, env []string, args ...string) outcome {
	t.Helper()
	var out, errs text
	cmd := exec.Command(binary(t), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr, cmd.Dir = env, &out, &errs, "/"
	if os.Getuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

func TestDevOnAReadOnlyDataDir(t *testing.T) {
	t.Parallel()
	outer, err := os.MkdirTemp("", "patchbay-readonly-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(outer) })
	d := newDev(t)
	for name, dir := range map[string]string{"empty": filepath.Join(outer, "empty"), "to be made": filepath.Join(outer, "closed", "data")} {
		if err := os.MkdirAll(filepath.Join(outer, "closed"), 0o555); err != nil {
			t.Fatal(err)
		}
		if name == "empty" {
			if err := os.Mkdir(dir, 0o555); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(outer, 0o755); err != nil {
			t.Fatal(err)
		}
		o := asNobody(t, d.environment(), "dev", "--data-dir", dir).fails(t, exitFailed, dir, "permission denied")
		if strings.Count(o.err, "\n") != 1 || o.out != "" {
			t.Errorf("%s: %q %q", name, o.out, o.err)
		}
	}
}

// A data dir that became somebody else's: nothing of it can be opened for writing.
func TestDevOnADataDirThatBecameReadOnly(t *testing.T) {
	t.Parallel()
	outer, err := os.MkdirTemp("", "patchbay-readonly-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Chmod(filepath.Join(outer, "data"), 0o700)
		_ = os.RemoveAll(outer)
	})
	if err := os.Chmod(outer, 0o755); err != nil {
		t.Fatal(err)
	}
	d := newDev(t)
	d.dir = filepath.Join(outer, "data")
	d.start(t, nil)
	d.end(t)
	before := map[string]time.Time{}
	err = filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		mode := os.FileMode(0o444)
		if e.IsDir() {
			mode = 0o555
		}
		info, err := e.Info()
		before[path] = info.ModTime()
		return errors.Join(err, os.Chmod(path, mode))
	})
	if err != nil {
		t.Fatal(err)
	}
	asNobody(t, d.environment(), "dev", "--data-dir", d.dir).fails(t, exitFailed, d.dir, "permission denied")
	for path, at := range before {
		if st, err := os.Stat(path); err != nil || !st.ModTime().Equal(at) {
			t.Errorf("%s was changed (%v)", path, err)
		}
	}
}
