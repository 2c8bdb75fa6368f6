package sealed_test

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
	"github.com/patchbay-dev/patchbay/vault/sealed"
	"github.com/patchbay-dev/patchbay/vault/vaulttest"
)

func open(t *testing.T, dir string) *sealed.Store {
	t.Helper()
	s, err := sealed.Open(dir, sealed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestSuite(t *testing.T) {
	t.Parallel()
	var dirs sync.Map // by the name of their test
	vaulttest.Run(t, vaulttest.Harness{Open: func(t *testing.T, _ *slog.Logger) vault.Store {
		dir := t.TempDir()
		dirs.Store(t.Name(), dir)
		return open(t, dir)
	}, Kept: func(t *testing.T, tn tenant.ID, id connector.ID) string {
		dir, _ := dirs.Load(t.Name())
		return kept(t, dir.(string), tn, id)
	}})
}

// kept is the one grant that a connector's folder can hold, opened.
func kept(t *testing.T, dir string, tn tenant.ID, id connector.ID) string {
	t.Helper()
	folder, err := vault.ConnectorPath("secrets", tn, id)
	if err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(filepath.Join(dir, folder))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	g, err := open(t, dir).ReadGrant(t.Context(), tn, id)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for name, v := range g.Values {
		all.WriteString(name + "=" + v.Reveal() + "\n")
	}
	return all.String()
}

func write(t *testing.T, s vault.Store, tn, value string) connector.SecretRef {
	t.Helper()
	ref := connector.SecretRef{Tenant: tenant.MustID(tn), Connector: connector.NewID(), Pin: vault.NewPin()}
	if err := s.Write(t.Context(), ref, vault.Bundle{Values: secret.Map{"password": secret.New(value)}}); err != nil {
		t.Fatal(err)
	}
	return ref
}

func path(t *testing.T, dir string, ref connector.SecretRef) string {
	t.Helper()
	p, err := vault.BundlePath("secrets", ref)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, p)
}

func TestNothingInClearAndNothingOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const canary = "canary-in-a-file"
	s := open(t, dir)
	ref := write(t, s, "acme", canary)
	if _, err := s.WriteGrant(t.Context(), ref.Tenant, ref.Connector, secret.Map{"refresh_token": secret.New(canary)}, 0); err != nil {
		t.Fatal(err)
	}
	files := 0
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
		if d.IsDir() {
			return nil
		}
		files++
		raw, err := os.ReadFile(p)
		if bytes.Contains(raw, []byte(canary)) {
			t.Errorf("%s holds the secret in clear", p)
		}
		return err
	})
	if err != nil || files != 5 { // key, its check, lock, bundle, grant
		t.Fatalf("%d files, %v", files, err)
	}
}

func TestSwappedFilesDoNotOpen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	a, b := write(t, s, "acme", "A"), write(t, s, "globex", "B")
	raw, err := os.ReadFile(path(t, dir, a))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path(t, dir, b), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read(t.Context(), b); fault.CodeOf(err) != fault.Unavailable || len(got.Values) != 0 {
		t.Fatalf("globex read acme's file: %v %v", got.Values, err)
	}
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1
		if err := os.WriteFile(path(t, dir, a), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(t.Context(), a); fault.CodeOf(err) != fault.Unavailable {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for n := range raw {
		if err := os.WriteFile(path(t, dir, a), raw[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(t.Context(), a); fault.CodeOf(err) != fault.Unavailable {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	rows := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
	}{
		{"group-readable", func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "key"), 0o640)) }, "is open to others (mode 0640)"},
		{"world-readable", func(t *testing.T, dir string) { must(t, os.Chmod(filepath.Join(dir, "key"), 0o604)) }, "chmod 600"},
		{"missing over secrets", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "key"))) }, "is missing but sealed secrets exist"},
		{"empty", func(t *testing.T, dir string) { must(t, os.WriteFile(filepath.Join(dir, "key"), nil, 0o600)) }, "does not hold 32 bytes"},
		{"too long", func(t *testing.T, dir string) {
			must(t, os.WriteFile(filepath.Join(dir, "key"), make([]byte, 33), 0o600))
		}, "does not hold 32 bytes"},
		{"a folder", func(t *testing.T, dir string) {
			must(t, os.Remove(filepath.Join(dir, "key")))
			must(t, os.Mkdir(filepath.Join(dir, "key"), 0o700))
		}, "not a regular file"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, open(t, dir), "acme", "x")
			row.spoil(t, dir)
			_, err := sealed.Open(dir, sealed.Options{})
			if fault.CodeOf(err) != fault.InvalidArgument || !strings.Contains(fault.Message(err), row.want) {
				t.Fatalf("got %v, want %q", err, row.want)
			}
		})
	}
}

func TestAnotherKeyOpensNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ref := write(t, open(t, dir), "acme", "x")
	must(t, os.WriteFile(filepath.Join(dir, "key"), make([]byte, 32), 0o600))
	if _, err := sealed.Open(dir, sealed.Options{}); fault.CodeOf(err) != fault.InvalidArgument || !strings.Contains(fault.Message(err), "is not the one that sealed") {
		t.Fatalf("with another key: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, "check")))
	s := open(t, dir)
	if _, err := os.Stat(filepath.Join(dir, "check")); err == nil {
		t.Error("another key is vouched for")
	}
	if _, err := s.Read(t.Context(), ref); fault.CodeOf(err) != fault.Unavailable {
		t.Fatalf("got %v", err)
	}
	refs, err := s.Refs(t.Context(), ref.Tenant, ref.Connector)
	if err != nil || len(refs) != 1 || refs[0].WrittenAt.IsZero() {
		t.Fatalf("the sweeper must still see it: %v %v", refs, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestKilledWriter kills a writing process again and again: what it had
// acknowledged stays readable, and nothing half-written shows.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	const env = "SEALED_TEST_WRITER"
	if dir := os.Getenv(env); dir != "" {
		s := open(t, dir)
		for {
			ref := write(t, s, "acme", strings.Repeat("v", 50_000))
			os.Stdout.WriteString("ack " + ref.Connector.String() + " " + ref.Pin.String() + "\n")
		}
	}
	dir, total := t.TempDir(), 0
	for round := range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWriter$")
		cmd.Env = append(os.Environ(), env+"="+dir)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		var acks bytes.Buffer
		buf := make([]byte, 4096)
		for strings.Count(acks.String(), "\n") < 5+round*3 {
			n, err := out.Read(buf)
			acks.Write(buf[:n])
			must(t, err)
		}
		must(t, cmd.Process.Kill())
		_ = cmd.Wait()
		s := open(t, dir)
		for line := range strings.Lines(acks.String()) {
			f := strings.Fields(line)
			if len(f) != 3 || f[0] != "ack" || len(f[2]) != 26 {
				continue // the kill cut the line, not the write
			}
			id, err := connector.ParseID(f[1])
			must(t, err)
			pin, err := connector.ParsePin(f[2])
			must(t, err)
			b, err := s.Read(t.Context(), connector.SecretRef{Tenant: tenant.MustID("acme"), Connector: id, Pin: pin})
			must(t, err)
			if b.Values["password"].Len() != 50_000 {
				t.Fatal("half a secret")
			}
			total++
		}
		ids, err := s.Connectors(t.Context(), tenant.MustID("acme"))
		must(t, err)
		for _, id := range ids {
			refs, err := s.Refs(t.Context(), tenant.MustID("acme"), id)
			must(t, err)
			for _, r := range refs {
				_, err := s.Read(t.Context(), r.Ref)
				must(t, err)
			}
		}
	}
	if total < 25 {
		t.Fatalf("only %d acknowledged writes were checked", total)
	}
}

func TestTwoProcessesShareGrants(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := open(t, dir), open(t, dir) // separate locks on one folder, as two processes have
	id, acme := connector.NewID(), tenant.MustID("acme")
	done := make(chan int, 2)
	for _, s := range []*sealed.Store{a, b} {
		go func() {
			wins := 0
			for range 50 {
				g, err := s.ReadGrant(t.Context(), acme, id)
				if err == nil {
					if _, err = s.WriteGrant(t.Context(), acme, id, secret.Map{"n": secret.New("x")}, g.Version); err == nil {
						wins++
					}
				}
			}
			done <- wins
		}()
	}
	wins := int64(<-done + <-done)
	g, err := a.ReadGrant(t.Context(), acme, id)
	must(t, err)
	if g.Version != wins || wins < 50 {
		t.Fatalf("version %d after %d won writes", g.Version, wins)
	}
}

// A folder whose name is an id in upper case is none of the store's: the id that
// it reads as has another path.
func TestConnectorsOfForeignFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir)
	must(t, os.MkdirAll(filepath.Join(dir, "secrets", "acme", "0198C0DE-0000-7000-8000-000000000001"), 0o700))
	must(t, os.MkdirAll(filepath.Join(dir, "secrets", "acme", "0198c0de-0000-7000-8000-000000000002"), 0o700))
	ids, err := s.Connectors(t.Context(), tenant.MustID("acme"))
	must(t, err)
	if len(ids) != 1 || ids[0].String() != "0198c0de-0000-7000-8000-000000000002" {
		t.Errorf("%v", ids)
	}
}
