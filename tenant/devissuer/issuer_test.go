package devissuer_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
)

func open(t *testing.T, dir string) *devissuer.Issuer {
	t.Helper()
	i, err := devissuer.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func verifier(t *testing.T, i *devissuer.Issuer) *tenant.Verifier {
	t.Helper()
	v, err := tenant.NewVerifier(tenant.VerifierOptions{Issuers: []tenant.Issuer{i.VerifierIssuer()}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMintVerifies(t *testing.T) {
	t.Parallel()
	i := open(t, t.TempDir())
	token, err := i.Mint(devissuer.Claims{Tenant: "acme", Organization: "hq", Organizations: []string{"hq", "lab"},
		Roles: []string{"connectors.read"}, Subject: "ann", TTL: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	env, err := verifier(t, i).Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if env.Tenant().String() != "acme" || env.Organization().String() != "hq" || len(env.Organizations()) != 2 ||
		env.Subject() != "ann" || env.Issuer() != devissuer.Name || !env.Can(tenant.ConnectorsRead) || env.Can(tenant.SecretsRead) {
		t.Errorf("env %+v", env)
	}
	if left := time.Until(env.ExpiresAt()); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("lives %v", left)
	}
}

// TestKeyIsKept: a token minted before a restart, or by another process on the
// same directory, is good.
func TestKeyIsKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token, err := open(t, dir).Mint(devissuer.Claims{Tenant: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier(t, open(t, dir)).Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
	_, err = verifier(t, open(t, t.TempDir())).Verify(t.Context(), token)
	if fault.CodeOf(err) != fault.Unauthenticated {
		t.Errorf("another directory's issuer: %v", err)
	}
}

func TestKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wg sync.WaitGroup
	sets := make([][]byte, 8)
	for n := range sets {
		wg.Go(func() {
			i, err := devissuer.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			sets[n] = i.JWKS()
		})
	}
	wg.Wait()
	for _, s := range sets {
		if !bytes.Equal(s, sets[0]) {
			t.Fatal("processes that start at once have different keys")
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != devissuer.KeyFile {
		t.Fatalf("left behind: %v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, devissuer.KeyFile))
	if err != nil || bytes.Contains(sets[0], []byte(`"d"`)) || !bytes.Contains(raw, []byte("PRIVATE KEY")) {
		t.Error("the private half belongs into the file, and into the file only")
	}
}

func TestBadKeyFile(t *testing.T) {
	t.Parallel()
	for name, raw := range map[string]string{"empty": "", "text": "hello", "not a key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		dir := t.TempDir()
		path := filepath.Join(dir, devissuer.KeyFile)
		if err := os.WriteFile(path, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := devissuer.Open(dir); fault.CodeOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != raw {
			t.Errorf("%s: the file was touched", name)
		}
	}
	if _, err := devissuer.Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestMintRefuses(t *testing.T) {
	t.Parallel()
	i := open(t, t.TempDir())
	for name, c := range map[string]devissuer.Claims{
		"no tenant":         {},
		"bad tenant":        {Tenant: "../x"},
		"bad organization":  {Tenant: "acme", Organization: "HQ"},
		"bad organizations": {Tenant: "acme", Organizations: []string{"hq", "*"}},
		"negative life":     {Tenant: "acme", TTL: -time.Second},
	} {
		if _, err := i.Mint(c); fault.CodeOf(err) != fault.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
