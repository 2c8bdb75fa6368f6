package testenv

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// VaultServer is an unsealed Vault with a root token. Its data survives Kill
// and Start.
type VaultServer struct {
	Port      int
	Addr      string // http://host:port
	RootToken string

	private
	client *http.Client
	next   atomic.Int64
}

// Vault is the server shared by the tests of this process; NewMount keeps them
// apart. A `vault` on PATH is used in its dev mode, else the project's own
// build of Vault.
func Vault(t testing.TB) *VaultServer {
	t.Helper()
	return env.vault.get(t, "Vault", func() (*VaultServer, error) { return startVault(false) })
}

// NewVault is a server for this test alone. It is always the project's own
// build: dev mode forgets everything at a restart.
func NewVault(t testing.TB) *VaultServer {
	t.Helper()
	s, err := startVault(true)
	if err != nil {
		refuse(t, "Vault", err)
	}
	t.Cleanup(s.end)
	return s
}

func startVault(durable bool) (*VaultServer, error) {
	// Vault refuses token ids that begin with its own "s." and "hvs.".
	s := &VaultServer{RootToken: fmt.Sprintf("root-%d-%d", os.Getpid(), time.Now().UnixNano()),
		client: &http.Client{Timeout: 30 * time.Second}}
	installed, lookErr := exec.LookPath("vault")
	dev := lookErr == nil && !durable
	bin := installed
	if !dev {
		built, err := buildVault()
		if err != nil {
			return nil, err
		}
		bin = built
	}
	dir, err := newFolder("vault", false)
	if err != nil {
		return nil, err
	}
	s.private = private{dir: dir, probe: s.healthy}
	for range 5 {
		if s.Port, err = reservePort(); err != nil {
			break
		}
		address := fmt.Sprintf("127.0.0.1:%d", s.Port)
		s.Addr = "http://" + address
		args := []string{"-addr", address, "-root", s.RootToken, "-storage", dir}
		if dev {
			args = []string{"server", "-dev", "-dev-no-store-token", "-dev-listen-address=" + address, "-dev-root-token-id=" + s.RootToken}
		}
		s.command = command{bin: bin, args: args, dir: dir, end: syscall.SIGTERM}
		if err = s.start(); err == nil || !errors.Is(err, errEnded) {
			break
		}
	}
	if err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// NewMount mounts a KV version 2 engine at a path of its own and waits until
// it takes writes. It is unmounted when the test ends.
func (s *VaultServer) NewMount(t testing.TB) (mount string) {
	t.Helper()
	mount = fmt.Sprintf("kv-%d-%d", os.Getpid(), s.next.Add(1))
	s.Do(t, "POST", "sys/mounts/"+mount, map[string]any{"type": "kv", "options": map[string]string{"version": "2"}})
	// Vault makes the engine's keys after it has answered; until then reads
	// and writes are refused with 400.
	deadline := time.Now().Add(startLimit)
	for {
		err := s.Call(s.RootToken, "POST", mount+"/config", map[string]any{"max_versions": 0}, nil)
		if err == nil {
			break
		}
		var refused *VaultError
		if !errors.As(err, &refused) || refused.Status != http.StatusBadRequest || time.Now().After(deadline) {
			t.Fatalf("KV engine at %s: %v", mount, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Cleanup(func() {
		// The server may be down or sealed by now, on purpose.
		_ = s.Call(s.RootToken, "DELETE", "sys/mounts/"+mount, nil, nil)
	})
	return mount
}

// NewPolicy writes a policy in Vault's language and returns its name.
func (s *VaultServer) NewPolicy(t testing.TB, rules string) (name string) {
	t.Helper()
	name = fmt.Sprintf("policy-%d-%d", os.Getpid(), s.next.Add(1))
	s.Do(t, "PUT", "sys/policies/acl/"+name, map[string]any{"policy": rules})
	return name
}

// NewToken makes a token with these policies. options are fields of
// auth/token/create, such as "ttl": "1s"; nil for none.
func (s *VaultServer) NewToken(t testing.TB, options map[string]any, policies ...string) (token string) {
	t.Helper()
	body := map[string]any{"policies": policies, "no_parent": true}
	maps.Copy(body, options)
	answer := s.Do(t, "POST", "auth/token/create", body)
	auth, _ := answer["auth"].(map[string]any)
	token, _ = auth["client_token"].(string)
	if token == "" {
		t.Fatalf("no token in the answer to auth/token/create")
	}
	return token
}

// AppRole is a role that can log in. Mount is the auth path ("approle-..."),
// Name the role's.
type AppRole struct {
	Mount, Name, RoleID, SecretID string
}

// NewAppRole enables an AppRole engine of its own and makes one role with these
// policies. options are fields of the role, such as "token_ttl": "2s".
func (s *VaultServer) NewAppRole(t testing.TB, options map[string]any, policies ...string) AppRole {
	t.Helper()
	r := AppRole{Mount: fmt.Sprintf("approle-%d-%d", os.Getpid(), s.next.Add(1)), Name: "role"}
	s.Do(t, "POST", "sys/auth/"+r.Mount, map[string]any{"type": "approle"})
	t.Cleanup(func() { _ = s.Call(s.RootToken, "DELETE", "sys/auth/"+r.Mount, nil, nil) })
	body := map[string]any{"token_policies": policies}
	maps.Copy(body, options)
	path := "auth/" + r.Mount + "/role/" + r.Name
	s.Do(t, "POST", path, body)
	r.RoleID = data(s.Do(t, "GET", path+"/role-id", nil), "role_id")
	r.SecretID = data(s.Do(t, "POST", path+"/secret-id", map[string]any{}), "secret_id")
	if r.RoleID == "" || r.SecretID == "" {
		t.Fatal("Vault gave no role id or secret id")
	}
	return r
}

func data(answer map[string]any, field string) string {
	fields, _ := answer["data"].(map[string]any)
	value, _ := fields[field].(string)
	return value
}

// Do calls the API as root and fails the test on any error. path comes without
// "/v1/". The answer is nil where Vault sends none.
func (s *VaultServer) Do(t testing.TB, method, path string, body any) map[string]any {
	t.Helper()
	var answer map[string]any
	if err := s.Call(s.RootToken, method, path, body, &answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// VaultError is an answer of 400 or above.
type VaultError struct {
	Method, Path string
	Status       int
	Body         string
}

func (e *VaultError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.Path, e.Status, e.Body)
}

// Call calls the API with a token ("" for none). answer is what the JSON is
// decoded into; nil when it doesn't matter. An answer of 400 or above is a
// *VaultError.
func (s *VaultServer) Call(token, method, path string, body, answer any) error {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode body: %w", err)
		}
		content = bytes.NewReader(b)
	}
	request, err := http.NewRequest(method, s.Addr+"/v1/"+strings.TrimPrefix(path, "/"), content)
	if err != nil {
		return err
	}
	if token != "" {
		request.Header.Set("X-Vault-Token", token)
	}
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode >= 400 {
		return &VaultError{Method: method, Path: path, Status: response.StatusCode, Body: strings.TrimSpace(string(b))}
	}
	if answer == nil || len(b) == 0 {
		return nil
	}
	return json.Unmarshal(b, answer)
}

// healthy answers nil once Vault is unsealed and active: sys/health says so
// by 200 and nothing else.
func (s *VaultServer) healthy() error {
	return s.Call("", "GET", "sys/health", nil, nil)
}
