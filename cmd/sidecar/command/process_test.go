package command

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
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
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
	if out, err := exec.Command("go", "build", "-o", built.dir, "..").CombinedOutput(); err != nil {
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
	out  transcript
	err  *text
	cmd  *exec.Cmd
	gone chan struct{}
}

// transcript is the file that a process writes its output to itself: what it wrote
// before something else was seen of it is there to be read. A pipe is copied by
// whoever has time, and the banner is promised before the first ready answer.
type transcript string

func (f transcript) String() string {
	b, err := os.ReadFile(string(f))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// launch starts the real program; it is killed when the test ends.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	return launched(t, env, exec.Command(binary(t), args...))
}

func launched(t testing.TB, env []string, cmd *exec.Cmd) *process {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }() // the process has its own descriptor
	p := &process{out: transcript(out.Name()), err: &text{}, cmd: cmd, gone: make(chan struct{})}
	p.cmd.Env = append(slices.Clip(env), "PATH="+os.Getenv("PATH"))
	p.cmd.Stdout, p.cmd.Stderr = out, p.err
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

// curlLine is the line of a banner to paste.
func curlLine(t testing.TB, banner string) string {
	t.Helper()
	for s := bufio.NewScanner(strings.NewReader(banner)); s.Scan(); {
		if line := strings.TrimSpace(s.Text()); strings.HasPrefix(line, "curl ") {
			return line
		}
	}
	t.Fatalf("no curl line:\n%s", banner)
	return ""
}

// What a banner's reader pastes works, in a shell, as it stands, wherever dev
// listens; a listener that has left loopback is told, each in a line.
func TestTheBannersCurlLine(t *testing.T) {
	t.Parallel()
	_, port, err := net.SplitHostPort(freeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	token := write(t, filepath.Join(t.TempDir(), "a token"), "second\n")
	for name, row := range map[string]struct {
		local, admin, probes string
		env                  []string
		shown                string // of the local API; "" for what local says
		left                 []string
	}{
		"loopback":       {},
		"IPv6 loopback":  {local: "[::1]:" + port},
		"IPv4, all":      {local: "0.0.0.0:0", shown: "http://127.0.0.1:", left: []string{"local API"}},
		"IPv6, all":      {local: "[::]:0", shown: "http://127.0.0.1:", left: []string{"local API"}},
		"all":            {local: ":0", shown: "http://127.0.0.1:", left: []string{"local API"}},
		"everything":     {local: ":0", admin: ":0", probes: ":" + port, shown: "http://127.0.0.1:", left: []string{"local API", "admin listener", "probes listener"}},
		"another":        {local: "127.0.0.2:0", shown: "http://127.0.0.2:"},
		"a second token": {env: []string{"PATCHBAY_LOCAL_TOKEN_FILE=" + token}},
	} {
		t.Run(name, func(t *testing.T) {
			if row.local == "[::1]:"+port && !hasIPv6(t) {
				row.local, row.shown = "127.0.0.1:0", "http://127.0.0.1:" // nothing of IPv6 is here to show
			}
			d := newDev(t)
			probes := d.probes
			for at, address := range map[*string]string{&d.local: row.local, &d.admin: row.admin, &d.probes: row.probes} {
				if address != "" {
					*at = address
				}
			}
			if row.probes != "" {
				probes = callable(row.probes)
			}
			if row.shown == "" {
				row.shown = "http://" + d.local
			}
			p := launch(t, d.environment(row.env...), "dev", "--data-dir", d.dir)
			p.ready(t, probes)
			banner := p.out.String()
			if !strings.Contains(banner, "local API   "+row.shown) || strings.Contains(banner, "http://[::]") {
				t.Errorf("the banner lacks %s:\n%s", row.shown, banner)
			}
			var left []string
			for line := range strings.Lines(banner) {
				if rest, ok := strings.CutPrefix(line, "The "); ok && strings.Contains(line, "left loopback") {
					listener, rest, _ := strings.Cut(rest, " has left")
					left = append(left, listener)
					if !strings.Contains(rest, "every address of this machine") || !regexp.MustCompile(`PATCHBAY_(LOCAL|ADMIN|PROBES)_LISTEN=127\.0\.0\.1:[1-9]\d* puts it back`).MatchString(rest) {
						t.Errorf("%q", line)
					}
				}
			}
			if !slices.Equal(left, row.left) {
				t.Errorf("told to have left loopback: %q, want %q", left, row.left)
			}
			line := curlLine(t, banner)
			out, err := exec.Command("sh", "-c", line).Output()
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			for _, want := range []string{`"bucket":"acme-prod"`, `"access_key_id":"demo-s3-key"`, `"secret_access_key":"demo-s3-secret"`} {
				if !strings.Contains(string(out), want) {
					t.Errorf("the answer to %s lacks %s: %s", line, want, out)
				}
			}
			if row.env != nil {
				return // resolve has no second token to give
			}
			// The command finds the same place by itself.
			if o := command(t, nil, "resolve", "storage", "--data-dir", d.dir).ok(t); !strings.Contains(o.out, `"bucket":"acme-prod"`) {
				t.Errorf("%s%s", o.out, o.err)
			}
		})
	}
}

func hasIPv6(t testing.TB) bool {
	t.Helper()
	ln, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return false
	}
	return ln.Close() == nil
}

// What dev keeps is its user's alone, whatever the umask and whatever was there.
func TestTheDataDirIsClosedToOthers(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	begin := func(t *testing.T) *process {
		t.Helper()
		p := launched(t, d.environment(), exec.Command("sh", "-c", `umask 0; exec "$0" dev --data-dir "$1"`, binary(t), d.dir))
		p.ready(t, d.probes)
		return p
	}
	closed := func(t *testing.T) {
		t.Helper()
		seen := 0
		err := filepath.WalkDir(d.dir, func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err == nil && path != d.dir && info.Mode().Perm()&others != 0 {
				t.Errorf("%s has mode %s", path, info.Mode())
			}
			seen++
			return err
		})
		if err != nil || seen < 10 {
			t.Errorf("%d files, %v", seen, err)
		}
	}
	mode := func(t *testing.T, path string) os.FileMode {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	open := func(t *testing.T, mode os.FileMode, paths ...string) {
		t.Helper()
		for _, path := range paths {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	end := func(t *testing.T, p *process) {
		t.Helper()
		p.signal(t, syscall.SIGTERM)
		p.ended(t)
	}

	p := begin(t)
	closed(t)
	if m := mode(t, d.dir); m != 0o700 || p.err.String() != "" {
		t.Errorf("a new one has mode %s: %s", m, p.err.String())
	}
	// Killed, it leaves SQLite's own files as they are.
	p.signal(t, syscall.SIGKILL)
	p.ended(t)
	store, key := filepath.Join(d.dir, storeFile), filepath.Join(d.dir, issuerDir, devissuer.KeyFile)
	open(t, 0o644, store, store+"-wal", store+"-shm", key)
	open(t, 0o755, d.dir, filepath.Dir(key))
	p = begin(t)
	closed(t)
	if m := mode(t, d.dir); m != 0o700 {
		t.Errorf("one that dev made has mode %s", m)
	}
	for _, want := range []string{"warning: the data dir " + d.dir + " was open to others (mode 0755)", store + " was open to others (mode 0644)", key + " was open"} {
		if !strings.Contains(p.err.String(), want) {
			t.Errorf("stderr lacks %q:\n%s", want, p.err.String())
		}
	}
	end(t, p)

	// A folder that was there is its maker's; and one may lead elsewhere.
	other := filepath.Join(t.TempDir(), "other")
	if err := os.Mkdir(other, 0o700); err != nil {
		t.Fatal(err)
	}
	open(t, 0o755, other)
	d.dir = filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(other, d.dir); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time, too
		p = begin(t)
		if m := mode(t, other); m != 0o755 {
			t.Errorf("somebody's folder has mode %s", m)
		}
		for _, want := range []string{d.dir + " is a symbolic link: everything is kept in " + other, d.dir + " is open to others (mode 0755)", "chmod 700"} {
			if !strings.Contains(p.err.String(), want) {
				t.Errorf("stderr lacks %q:\n%s", want, p.err.String())
			}
		}
		end(t, p)
	}
	d.dir = other
	closed(t)
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
	p.until(t, "it drains", func() bool { // not ready it may be for the frozen database alone
		_, body := get(t, "http://"+probes+"/readyz?verbose", "")
		return strings.Contains(body, "leaving")
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
