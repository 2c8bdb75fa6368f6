package vault_test

import (
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/vault"
)

// server is a Vault server; admin calls use its root token.
type server struct {
	addr string
	root string
	*testenv.VaultServer
}

// private is a server that this test may kill and seal. Its data survives.
func private(t *testing.T) *server { return serverOf(testenv.NewVault(t)) }

func serverOf(v *testenv.VaultServer) *server {
	return &server{addr: v.Addr, root: v.RootToken, VaultServer: v}
}

// admin calls the API as root and fails the test on a status of 400 or more.
func (s *server) admin(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	return s.Do(t, method, path, body)
}

type object = map[string]any

// name makes a mount or policy name of the test's own, which it knows before the
// server is there.
func name(t *testing.T, kind string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(kind+"-"+t.Name()))
}

// kv mounts KV version 2 and waits until it takes writes.
func (s *server) kv(t *testing.T) string {
	t.Helper()
	mount := name(t, "kv")
	s.admin(t, "POST", "sys/mounts/"+mount, object{"type": "kv", "options": object{"version": "2"}})
	eventually(t, "the mount takes writes", func() bool {
		return s.Call(s.root, "POST", mount+"/data/warm", object{"data": object{"x": "y"}}, nil) == nil
	})
	s.admin(t, "DELETE", mount+"/metadata/warm", nil)
	return mount
}

// policy grants everything below the given prefix of the mount.
func (s *server) policy(t *testing.T, mount, prefix string) string {
	t.Helper()
	var b strings.Builder
	for _, kind := range []string{"data", "metadata"} {
		fmt.Fprintf(&b, "path %q { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"] }\n", mount+"/"+kind+"/"+prefix+"*")
	}
	fmt.Fprintf(&b, "path %q { capabilities = [\"update\"] }\n", mount+"/destroy/"+prefix+"+/+/grant")
	p := name(t, "policy")
	s.admin(t, "PUT", "sys/policies/acl/"+p, object{"policy": b.String()})
	return p
}

// appRole makes an AppRole with fixed ids, so that a restarted server can have
// the same one, and returns the auth options for it.
func (s *server) appRole(t *testing.T, dir, policy string, role object) vault.Auth {
	t.Helper()
	mount := name(t, "approle")
	s.admin(t, "POST", "sys/auth/"+mount, object{"type": "approle"})
	// Vault locks a role out for 15 minutes after five wrong secret ids.
	s.admin(t, "POST", "sys/auth/"+mount+"/tune", object{"user_lockout_config": object{"lockout_disable": true}})
	all := object{"token_policies": policy, "token_ttl": "1h"}
	maps.Copy(all, role)
	s.admin(t, "POST", "auth/"+mount+"/role/r", all)
	s.admin(t, "POST", "auth/"+mount+"/role/r/role-id", object{"role_id": "fixed-role-id"})
	s.admin(t, "POST", "auth/"+mount+"/role/r/custom-secret-id", object{"secret_id": secretID})
	return vault.Auth{Method: vault.AuthAppRole, MountPath: mount, RoleID: "fixed-role-id", SecretIDFile: file(t, dir, "secret-id", secretID+"\n")}
}

const secretID = "canary-secret-id-5d1f"

func file(t *testing.T, dir, base, content string) string {
	t.Helper()
	path := filepath.Join(dir, base)
	must(t, os.WriteFile(path+".new", []byte(content), 0o600))
	must(t, os.Rename(path+".new", path))
	return path
}

// sharedServer is the one server of the tests that don't harm it.
func sharedServer(t *testing.T) *server { return serverOf(testenv.Vault(t)) }

func TestMain(m *testing.M) { testenv.Main(m) }

// patience bounds every wait: far above the longest, for a token's 15 s to end.
const patience = 40 * time.Second

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if done() {
			return
		}
		select {
		case <-t.Context().Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openClient opens a client with short back-offs and closes it with the test.
func openClient(t *testing.T, s *server, mount string, a vault.Auth, change ...func(*vault.Options)) *vault.Client {
	t.Helper()
	o := vault.Options{
		Address: s.addr, Mount: mount, Prefix: "pb", Auth: a,
		BackoffMin: 20 * time.Millisecond, BackoffMax: 100 * time.Millisecond, FilePoll: 20 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	for _, f := range change {
		f(&o)
	}
	c, err := vault.Open(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { must(t, c.Close()) })
	return c
}

func ready(t *testing.T, c *vault.Client) {
	t.Helper()
	eventually(t, "the client is ready", func() bool { return c.Ready(t.Context()) == nil })
}
