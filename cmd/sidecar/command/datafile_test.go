package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/tenant"
)

// The dev's own environment and folder must not be looked at: placeholders are
// the command line's.
func TestImportThroughARunningDev(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, []string{"MINE=dev's own"})
	folder := t.TempDir()
	write(t, filepath.Join(folder, "key.txt"), "from a file\n")
	file := write(t, filepath.Join(folder, "initech.xml"), strings.NewReplacer("'AK'", "'$FILE:key.txt'", "'S'", "'$ENV:MINE'").Replace(bucketFile("bucket-1", "S")))

	command(t, nil, "import", "--data-dir", d.dir, file).fails(t, exitFailed, "MINE is not set", "initech.xml:")
	o := command(t, []string{"MINE=the caller's"}, "import", "--data-dir", d.dir, file).ok(t)
	if !strings.Contains(o.out, "create") || strings.Contains(o.out, "the caller's") {
		t.Errorf("the plan:\n%s", o.out)
	}
	token := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "initech", "--org", "hq").ok(t).out)
	b := d.resolve(t, token, "storage")
	if b.Config["secret_access_key"] != "the caller's" || b.Config["access_key_id"] != "from a file" {
		t.Fatalf("%+v", b)
	}

	// Again: nothing to do. Then a change is served within a second: dev is
	// connected to its own relay.
	if o := command(t, []string{"MINE=the caller's"}, "import", "--data-dir", d.dir, file).ok(t); !strings.Contains(o.out, "0 to create, 0 to update") {
		t.Errorf("%s", o.out)
	}
	if again := d.resolve(t, token, "storage"); again.Connector.Version != b.Connector.Version {
		t.Errorf("version %d became %d", b.Connector.Version, again.Connector.Version)
	}
	command(t, []string{"MINE=changed"}, "import", "--data-dir", d.dir, "--dry-run", file).ok(t)
	if again := d.resolve(t, token, "storage"); again.Config["secret_access_key"] != "the caller's" {
		t.Errorf("a dry run changed %+v", again)
	}
	command(t, []string{"MINE=changed"}, "import", "--data-dir", d.dir, file).ok(t)
	heard(t, d.local, "", token, `"secret_access_key":"changed"`)

	through := command(t, nil, "export", "--data-dir", d.dir, "--tenant", "initech").ok(t).out
	command(t, nil, "export", "--data-dir", d.dir).fails(t, exitUsage, "acme", "globex", "initech", "--tenant")
	command(t, nil, "export", "--data-dir", d.dir, "--tenant", "NO").fails(t, exitUsage, "--tenant")
	if strings.Contains(through, "changed") || !strings.Contains(through, "$ENV:INITECH_S3_SECRET_ACCESS_KEY") {
		t.Errorf("the export:\n%s", through)
	}
	d.end(t)

	// With no dev the same commands work on the data dir themselves.
	if direct := command(t, nil, "export", "--data-dir", d.dir, "--tenant", "initech").ok(t).out; direct != through {
		t.Errorf("through dev:\n%s\ndirect:\n%s", through, direct)
	}
	command(t, []string{"MINE=directly"}, "import", "--data-dir", d.dir, file).ok(t)
	d.start(t, nil)
	if b := d.resolve(t, token, "storage"); b.Config["secret_access_key"] != "directly" {
		t.Errorf("%+v", b)
	}
}

// Imports while dev starts and stops again and again: each is carried out once,
// by whoever holds the data dir at the moment.
func TestImportWhileDevComesAndGoes(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, nil)
	folder := t.TempDir()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(done)
		for i := range 8 {
			file := write(t, filepath.Join(folder, fmt.Sprintf("%d.xml", i)), bucketFile(fmt.Sprintf("bucket-%d", i), "s"))
			if o := command(t, nil, "import", "--data-dir", d.dir, file); o.code != exitDone {
				t.Errorf("import %d: exit %d %s", i, o.code, o.err)
			}
		}
	})
	for running := true; running; {
		d.end(t)
		d.start(t, nil)
		select {
		case <-done:
			running = false
		default:
		}
	}
	wg.Wait()
	token := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "initech", "--org", "hq").ok(t).out)
	if b := d.resolve(t, token, "storage"); b.Config["bucket"] != "bucket-7" || b.Connector.Version != 8 {
		t.Errorf("%+v", b)
	}
}

func TestControlSocketIsItsUsersOwn(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, nil)
	for _, name := range []string{controlFile, lockFile} {
		st, err := os.Stat(filepath.Join(d.dir, name))
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
	path, err := os.ReadFile(filepath.Join(d.dir, controlFile))
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(string(path)); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", st.Mode(), err)
	}
	d.end(t)
	if _, err := os.Stat(string(path)); err == nil {
		t.Error("the socket was left")
	}
}

// A dev that was killed leaves its socket and the file that names it.
func TestImportWithALeftoverSocket(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, nil)
	d.end(t)
	dir, err := os.MkdirTemp("", "pb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = ln.Close()
	write(t, filepath.Join(d.dir, controlFile), socket)
	file := write(t, filepath.Join(t.TempDir(), "f.xml"), bucketFile("bucket-1", "s"))
	command(t, nil, "import", "--data-dir", d.dir, file).ok(t)
	d.start(t, nil)
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	file := write(t, filepath.Join(t.TempDir(), "f.xml"), bucketFile("bucket-1", "s"))
	command(t, nil, "import", "--data-dir", d.dir, file).fails(t, exitFailed, "no data dir", d.dir)
	d.start(t, nil)
	before := command(t, nil, "export", "--data-dir", d.dir, "--tenant", "acme").ok(t).out
	for name, row := range map[string]struct {
		content string
		args    []string
		code    int
		texts   []string
	}{
		"no tenant":      {`<ede><record id="c" model="ir.connector"><field name="name">n</field><field name="kind">smtp</field></record></ede>`, nil, exitFailed, []string{`"c"`, "--tenant"}},
		"bad tenant":     {`<ede/>`, []string{"--tenant", "../x"}, exitUsage, []string{"--tenant"}},
		"dangling":       {strings.Replace(bucketFile("bucket-1", "s"), `ref="o"`, `ref="nowhere"`, 1), nil, exitFailed, []string{"nowhere", ".xml:8"}},
		"missing file":   {strings.Replace(bucketFile("bucket-1", "s"), "'AK'", "'$FILE:none'", 1), nil, exitFailed, []string{"none"}},
		"another tenant": {bucketFile("bucket-1", "s"), []string{"--tenant", "globex"}, exitFailed, []string{"globex", "initech"}},
	} {
		file := write(t, filepath.Join(t.TempDir(), "f.xml"), row.content)
		t.Log(name)
		command(t, nil, append([]string{"import", "--data-dir", d.dir, file}, row.args...)...).fails(t, row.code, row.texts...)
	}
	// Far too long: refused without reading it to its end.
	huge := filepath.Join(t.TempDir(), "huge.xml")
	f, err := os.Create(huge)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(64<<30), f.Close()); err != nil { // sparse: it takes no room
		t.Fatal(err)
	}
	command(t, nil, "import", "--data-dir", d.dir, huge).fails(t, exitFailed, "huge.xml", "split it")

	// The first file is in, the second is wrong, the third is not reached.
	bad := write(t, filepath.Join(t.TempDir(), "bad.xml"), `<ede><record`)
	third := write(t, filepath.Join(t.TempDir(), "third.xml"), strings.ReplaceAll(bucketFile("bucket-3", "s"), "initech", "hooli"))
	command(t, nil, "import", "--data-dir", d.dir, file, bad, third).fails(t, exitFailed, "bad.xml:1")
	command(t, nil, "export", "--data-dir", d.dir, "--tenant", "initech").ok(t)
	command(t, nil, "export", "--data-dir", d.dir, "--tenant", "hooli").fails(t, exitFailed)
	if after := command(t, nil, "export", "--data-dir", d.dir, "--tenant", "acme").ok(t).out; after != before {
		t.Errorf("acme changed:\n%s", after)
	}
}

func TestResolveWithTheLocalAPIsOwnToken(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	own := write(t, filepath.Join(t.TempDir(), "own"), "an-own-token-of-the-local-api\n")
	d.start(t, []string{"PATCHBAY_LOCAL_TOKEN_FILE=" + own})
	command(t, nil, "resolve", "storage", "--data-dir", d.dir).fails(t, exitFailed, "unauthenticated")
	command(t, nil, "resolve", "storage", "--data-dir", d.dir, "--local-token-file", own+"x").fails(t, exitFailed, "token file")
	o := command(t, nil, "resolve", "storage", "--data-dir", d.dir, "--local-token-file", own).ok(t)
	if !strings.Contains(o.out, `"bucket":"acme-prod"`) {
		t.Error(o.out)
	}
}

func TestTokenAndResolve(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	// Before dev ever ran: the token is good for the dev that comes.
	token := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "acme", "--org", "acme", "--orgs", "acme,acme_labs", "--roles", "a,b", "--ttl", "5m").ok(t).out)
	command(t, nil, "resolve", "storage", "--url", "http://"+d.local, "--data-dir", d.dir).fails(t, exitFailed, "nothing answers", d.local)
	d.start(t, nil)
	_, body := get(t, "http://"+d.local+"/v1/env", token)
	var env struct {
		Tenant, Organization string
		Organizations, Roles []string
		ExpiresAt            time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal([]byte(body), &env); err != nil || env.Tenant != "acme" || env.Organization != "acme" ||
		strings.Join(env.Organizations, ",") != "acme,acme_labs" || strings.Join(env.Roles, ",") != "a,b" ||
		time.Until(env.ExpiresAt) > 5*time.Minute || time.Until(env.ExpiresAt) < 4*time.Minute {
		t.Errorf("%s %v", body, err)
	}
	tokenFile := write(t, filepath.Join(t.TempDir(), "token"), token+"\n")
	for name, o := range map[string]outcome{
		"minted":        command(t, []string{"PATCHBAY_URL=http://" + d.local}, "resolve", "storage", "--data-dir", d.dir),
		"token":         command(t, []string{"PATCHBAY_TOKEN=" + token}, "resolve", "storage", "--url", "http://"+d.local, "--data-dir", "/nowhere"),
		"token file":    command(t, nil, "resolve", "storage", "--url", "http://"+d.local, "--token-file", tokenFile, "--data-dir", "/nowhere"),
		"file variable": command(t, []string{"PATCHBAY_TOKEN_FILE=" + tokenFile}, "resolve", "storage", "--url", "http://"+d.local, "--data-dir", "/nowhere"),
	} {
		o.ok(t)
		if !json.Valid([]byte(o.out)) || !strings.Contains(o.out, `"bucket":"acme-prod"`) {
			t.Errorf("%s: %s", name, o.out)
		}
		if minted := strings.Contains(o.err, "minted"); minted != (name == "minted") {
			t.Errorf("%s says %q", name, o.err)
		}
		if strings.Contains(o.err, "eyJ") {
			t.Errorf("%s: stderr shows a token", name)
		}
	}
	url := "--url=http://" + d.local
	command(t, nil, "resolve", "messaging", url, "--data-dir", d.dir).fails(t, exitFailed, "no_default_connector")
	command(t, nil, "resolve", "nonsense", url, "--data-dir", d.dir).fails(t, exitFailed, "unknown_category")
	command(t, nil, "resolve", "storage", url, "--data-dir", d.dir, "--org", "hq").fails(t, exitFailed, "no_default_connector")
	command(t, nil, "resolve", "storage", url, "--data-dir", "/nowhere").fails(t, exitUsage, "--token-file")
	command(t, nil, "resolve", "storage", url, "--data-dir", d.dir, "--format", "nonsense").fails(t, exitUsage, "--format")
	command(t, nil, "resolve", "storage", "--url", "ftp://x", "--data-dir", d.dir).fails(t, exitUsage, "http://")
	command(t, []string{"PATCHBAY_TOKEN=nonsense"}, "resolve", "storage", url).fails(t, exitFailed, "unauthenticated")
	command(t, nil, "token", "--data-dir", d.dir).fails(t, exitUsage, "--tenant")
	command(t, nil, "token", "--data-dir", d.dir, "--tenant", "A").fails(t, exitUsage, "tenant")
	command(t, nil, "token", "--data-dir", d.dir, "--tenant", "acme", "--org", "../x").fails(t, exitUsage, "org")
	command(t, nil, "token", "--data-dir", d.dir, "--tenant", "acme", "--ttl", "-1s").fails(t, exitUsage, "--ttl")
	d.end(t)
	command(t, nil, "token", "--data-dir", d.dir, "--tenant", "acme").ok(t)
	if code, _ := get(t, "http://"+d.local+"/v1/env", token); code != 0 {
		t.Errorf("dev still answers %d", code)
	}
}

// The file says one thing, somebody said another since: both stay until --force.
func TestImportConflicts(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	d.start(t, nil)
	file := write(t, filepath.Join(t.TempDir(), "f.xml"), bucketFile("bucket-1", "s"))
	command(t, nil, "import", "--data-dir", d.dir, file).ok(t)
	d.end(t)
	kinds, err := loadKinds(&config.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	e, err := openEmbedded(t.Context(), d.dir, kinds, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	initech := tenant.MustID("initech")
	list, err := e.store.Tenant(initech).List(t.Context(), connector.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%v %v", list, err)
	}
	_, err = e.store.Change(t.Context(), connector.Change{Tenants: []tenant.ID{initech}, Actor: "test"}, func(ctx context.Context, tx connector.Tx) error {
		return tx.Tenant(initech).Update(ctx, list[0].ID, list[0].Version, func(c *connector.Connector) error {
			p := c.Params["bucket"]
			p.Value, p.Writer = "by-hand", connector.WriterAPI
			c.Params["bucket"] = p
			return nil
		})
	})
	e.close()
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, bucketFile("bucket-2", "s"))
	check := func() {
		t.Helper()
		for _, args := range [][]string{{"--dry-run"}, {}} {
			o := command(t, nil, append([]string{"import", "--data-dir", d.dir, file}, args...)...).fails(t, exitFailed, "f.xml:", "bucket", "--force")
			if strings.Count(o.err, "\n") != 2 || strings.Contains(o.err, "by-hand") {
				t.Errorf("%v:\n%s", args, o.err)
			}
		}
	}
	check()
	d.start(t, nil)
	check() // through dev, too
	token := strings.TrimSpace(command(t, nil, "token", "--data-dir", d.dir, "--tenant", "initech", "--org", "hq").ok(t).out)
	if b := d.resolve(t, token, "storage"); b.Config["bucket"] != "by-hand" {
		t.Errorf("%+v", b)
	}
	command(t, nil, "import", "--data-dir", d.dir, "--force", file).ok(t)
	eventually(t, "the file has won", func() bool { return d.resolve(t, token, "storage").Config["bucket"] == "bucket-2" })
}

// Without a token and without words, resolve asks for whoever has an answer.
func TestResolveFindsWhomToAskFor(t *testing.T) {
	t.Parallel()
	d := newDev(t)
	seed := write(t, filepath.Join(t.TempDir(), "seed.xml"), bucketFile("one", "s1"))
	d.start(t, nil, "--seed", seed)
	url := "--url=http://" + d.local
	o := command(t, nil, "resolve", "storage", url, "--data-dir", d.dir).ok(t)
	if !strings.Contains(o.out, `"bucket":"one"`) || !strings.Contains(o.err, "tenant initech, organization hq") {
		t.Errorf("%s%s", o.out, o.err)
	}
	command(t, nil, "resolve", "storage", url, "--data-dir", d.dir, "--tenant", "initech").ok(t)
	command(t, nil, "resolve", "email", url, "--data-dir", d.dir).fails(t, exitFailed, "no_default_connector")
	command(t, nil, "resolve", "storage", url, "--data-dir", d.dir, "--tenant", "hooli").fails(t, exitFailed, "not_found")
	command(t, nil, "resolve", "storage", url, "--data-dir", d.dir, "--tenant", "../x").fails(t, exitUsage, "tenant")
	command(t, nil, "resolve", "../env", url, "--data-dir", d.dir).fails(t, exitFailed, "sidecar: ")
	empty := write(t, filepath.Join(t.TempDir(), "token"), "\n")
	command(t, nil, "resolve", "storage", url, "--token-file", empty).fails(t, exitFailed, empty, "empty")
	command(t, nil, "resolve", "storage", url, "--token-file", "/nowhere").fails(t, exitFailed, "/nowhere")
	// Something else answers there.
	command(t, nil, "resolve", "storage", "--url", "http://"+d.probes, "--data-dir", d.dir).fails(t, exitFailed, "not_found")
}

// A socket that belongs to somebody else gets no secret.
func TestImportTrustsItsOwnersSocketOnly(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Log("only root can give a socket away")
		return
	}
	d := newDev(t)
	d.start(t, nil)
	d.end(t)
	socket := socketPath(t)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	called := make(chan struct{})
	go func() {
		if conn, err := ln.Accept(); err == nil {
			_ = conn.Close()
			close(called)
		}
	}()
	if err := os.Chown(socket, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(d.dir, controlFile), socket)
	file := write(t, filepath.Join(t.TempDir(), "f.xml"), bucketFile("bucket-1", "s"))
	command(t, nil, "import", "--data-dir", d.dir, file).ok(t) // on the data itself
	select {
	case <-called:
		t.Error("the stranger's socket was called")
	default:
	}
}

// Where the socket lies: in the data dir, or, when that path is too long for one,
// in a folder that only its user may enter.
func TestControlSocketFits(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{
		"short": filepath.Join(filepath.Dir(socketPath(t)), "data"),
		"long":  filepath.Join(t.TempDir(), strings.Repeat("long/", 30), "data"),
	} {
		d := newDev(t)
		d.dir = dir
		d.start(t, nil)
		socket, ok := controlOf(dir)
		if !ok {
			t.Fatalf("%s: no socket", name)
		}
		if inside := filepath.Dir(socket) == dir; inside != (name == "short") {
			t.Errorf("%s: %s", name, socket)
		}
		if st, err := os.Stat(filepath.Dir(socket)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
		command(t, nil, "export", "--data-dir", dir, "--tenant", "acme").ok(t)
		d.end(t)
		if _, err := os.Stat(socket); err == nil {
			t.Errorf("%s: the socket was left", name)
		}
	}
}
