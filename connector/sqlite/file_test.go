package sqlite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

var acme = tenant.MustID("acme")

// writerEnv holds the store's path in the process that TestKilledWriter kills.
const writerEnv = "PATCHBAY_TEST_SQLITE_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func named(name string) connector.Connector {
	return connector.Connector{ID: connector.NewID(), Name: name, Category: "storage", Kind: "s3", SchemaVersion: 1,
		State: connector.StateUntested, Params: map[string]connector.Param{"bucket": {Value: name, Writer: connector.WriterAPI}}}
}

// writeForEver inserts pairs of connectors and prints each pair's number and
// revision once its commit is acknowledged.
func writeForEver(path string) error {
	ctx := context.Background()
	s, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	_, err = s.Change(ctx, connector.Change{Actor: "test", Create: []connector.Tenant{{ID: acme, Name: "A", Status: connector.StatusReady}}},
		func(context.Context, connector.Tx) error { return nil })
	if err != nil && !errors.Is(err, fault.AlreadyExists) {
		return err
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("%d-%d", os.Getpid(), i)
		revisions, err := s.Change(ctx, connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.Tx) error {
			return errors.Join(tx.Tenant(acme).Insert(ctx, named(name)), tx.Tenant(acme).Insert(ctx, named(name)))
		})
		if err != nil {
			return err
		}
		fmt.Println(name, revisions[acme])
	}
}

// A kill at any moment loses no acknowledged write and leaves no half one.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	acknowledged := map[string]bool{}
	for round := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		var last string
		for n := 0; n < 5+round*3 && lines.Scan(); n++ {
			last = lines.Text()
			name, _, _ := strings.Cut(last, " ")
			acknowledged[name] = true
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // acknowledged between our last look and the kill
			last = lines.Text()
			name, _, _ := strings.Cut(last, " ")
			acknowledged[name] = true
		}
		_ = cmd.Wait()
		s := openAt(t, path, Options{})
		all, err := s.Tenant(acme).List(t.Context(), connector.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, c := range all {
			count[c.Name]++
			if c.Params["bucket"].Value != c.Name {
				t.Errorf("%s has lost its params", c.Name)
			}
		}
		for name := range acknowledged {
			if count[name] == 0 {
				t.Errorf("%s was acknowledged and is gone", name)
			}
		}
		for name, n := range count {
			if n != 2 {
				t.Errorf("%d of the two %s", n, name)
			}
		}
		got, err := s.Tenant(acme).Get(t.Context())
		var revision int64
		if _, scanned := fmt.Sscan(last[strings.Index(last, " ")+1:], &revision); scanned != nil || err != nil || got.Revision < revision {
			t.Errorf("revision %d after an acknowledged %q: %v", got.Revision, last, err)
		}
		var check string
		if err := s.write.QueryRow(`PRAGMA integrity_check`).Scan(&check); err != nil || check != "ok" {
			t.Errorf("integrity: %s %v", check, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(acknowledged) < 50 {
		t.Errorf("only %d writes", len(acknowledged))
	}
}

func TestPragmas(t *testing.T) {
	t.Parallel()
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{})
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1"} {
		var got string
		if err := s.write.QueryRow(`PRAGMA ` + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s: %v", pragma, got, want, err)
		}
	}
	if _, err := s.read.Exec(`DELETE FROM outbox`); err == nil {
		t.Error("a reader can write")
	}
}

// Configs are nobody else's business, in the files beside the store too.
func TestFileModes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s := openAt(t, path, Options{})
	if _, err := s.Tenants(t.Context(), connector.TenantFilter{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", filepath.Base(name), info.Mode(), err)
		}
	}
}

// What can't be opened says which file and why, and is left as it was.
func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newer := filepath.Join(dir, "newer.db")
	s := openAt(t, newer, Options{})
	if _, err := s.write.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)`); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "foreign.db")
	if err := os.WriteFile(foreign, []byte(strings.Repeat("this is no database\n", 200)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.db"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		path string
		code fault.Code
		says string
	}{
		{newer, fault.Conflict, "schema version 99, and this program knows up to 3: use a newer one"},
		{foreign, fault.Conflict, "is not a store file of this program"},
		{filepath.Join(dir, "folder.db"), fault.Unavailable, "cannot be"},
		{filepath.Join(dir, "absent", "store.db"), fault.Unavailable, "cannot be made"},
	} {
		before, _ := os.ReadFile(row.path)
		s, err := Open(t.Context(), row.path, Options{})
		if err == nil {
			_ = s.Close()
		}
		if fault.CodeOf(err) != row.code || !strings.Contains(fault.Message(err), row.says) || !strings.Contains(fault.Message(err), row.path) {
			t.Errorf("%s: %v (%s)", filepath.Base(row.path), err, fault.CodeOf(err))
		}
		if after, _ := os.ReadFile(row.path); string(after) != string(before) {
			t.Errorf("%s was changed", filepath.Base(row.path))
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a folder was made")
	}
}

// A writer of another process is waited for, no longer than the caller's time,
// and readers don't wait at all.
func TestLockedByAnother(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "store.db")
	s, other := openAt(t, path, Options{}), openAt(t, path, Options{})
	_, err := s.Change(t.Context(), connector.Change{Actor: "test", Create: []connector.Tenant{{ID: acme, Name: "A", Status: connector.StatusReady}}},
		func(context.Context, connector.Tx) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	change := connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}
	_, err = other.Change(t.Context(), change, func(context.Context, connector.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err := s.Change(ctx, change, func(context.Context, connector.Tx) error { return nil })
		if fault.CodeOf(err) != fault.DeadlineExceeded || time.Since(start) > 4*time.Second {
			t.Errorf("a write beside another's, after %v: %v", time.Since(start), err)
		}
		if _, err := s.Tenant(acme).Get(t.Context()); err != nil {
			t.Errorf("a read beside another's write: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Change(t.Context(), change, func(context.Context, connector.Tx) error { return nil }); err != nil {
		t.Errorf("once the other is done: %v", err)
	}
}

// A clock that goes back moves no revision and no time back.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	s := openAt(t, filepath.Join(t.TempDir(), "store.db"), Options{Clock: func() time.Time { return now }})
	c := named("x")
	first, err := s.Change(t.Context(), connector.Change{Actor: "test", Create: []connector.Tenant{{ID: acme, Name: "A", Status: connector.StatusReady}}},
		func(ctx context.Context, tx connector.Tx) error { return tx.Tenant(acme).Insert(ctx, c) })
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour)
	second, err := s.Change(t.Context(), connector.Change{Actor: "test", Tenants: []tenant.ID{acme}}, func(ctx context.Context, tx connector.Tx) error {
		return tx.Tenant(acme).Update(ctx, c.ID, 1, func(c *connector.Connector) error { c.Name = "y"; return nil })
	})
	if err != nil || second[acme] != first[acme]+1 {
		t.Errorf("revision %d after %d: %v", second[acme], first[acme], err)
	}
	all, err := s.Tenant(acme).List(t.Context(), connector.Filter{})
	if err != nil || len(all) != 1 || all[0].UpdatedAt.Before(all[0].CreatedAt) {
		t.Errorf("%+v %v", all, err)
	}
}
