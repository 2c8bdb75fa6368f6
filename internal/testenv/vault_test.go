package testenv_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func status(err error) int {
	if refused, ok := errors.AsType[*testenv.VaultError](err); ok {
		return refused.Status
	}
	return 0
}

func TestAppRoleReachesItsMountOnly(t *testing.T) {
	t.Parallel()
	v := testenv.Vault(t)
	mine, other := v.NewMount(t), v.NewMount(t)
	policy := v.NewPolicy(t, `path "`+mine+`/data/*" { capabilities = ["create", "read", "update"] }`)
	role := v.NewAppRole(t, map[string]any{"token_ttl": "1h"}, policy)

	var login struct {
		Auth struct {
			Token string `json:"client_token"`
		} `json:"auth"`
	}
	err := v.Call("", "POST", "auth/"+role.Mount+"/login", map[string]string{"role_id": role.RoleID, "secret_id": role.SecretID}, &login)
	if err != nil {
		t.Fatalf("login: %v", err)
	}
	for _, token := range []string{login.Auth.Token, v.NewToken(t, nil, policy)} {
		if err := v.Call(token, "POST", mine+"/data/x", map[string]any{"data": map[string]string{"a": "b"}}, nil); err != nil {
			t.Errorf("write to its own mount: %v", err)
		}
		if err := v.Call(token, "POST", other+"/data/x", map[string]any{"data": map[string]string{"a": "b"}}, nil); status(err) != http.StatusForbidden {
			t.Errorf("write to another mount: %v, want 403", err)
		}
	}
}

func TestKilledVaultComesBackUnsealedWithItsData(t *testing.T) {
	t.Parallel()
	v := testenv.NewVault(t)
	mount := v.NewMount(t)
	v.Do(t, "POST", mount+"/data/x", map[string]any{"data": map[string]string{"a": "b"}})
	v.Kill()
	if err := v.Call(v.RootToken, "GET", mount+"/data/x", nil, nil); err == nil || status(err) != 0 {
		t.Fatalf("a killed server answers: %v", err)
	}
	v.Start(t)
	var answer struct {
		Data struct {
			Data map[string]string `json:"data"`
		} `json:"data"`
	}
	if err := v.Call(v.RootToken, "GET", mount+"/data/x", nil, &answer); err != nil || answer.Data.Data["a"] != "b" {
		t.Fatalf("read back %v, %v", answer, err)
	}
	// The seal is the operator's emergency stop: everything is 503 then.
	v.Do(t, "PUT", "sys/seal", nil)
	if err := v.Call(v.RootToken, "GET", mount+"/data/x", nil, nil); status(err) != http.StatusServiceUnavailable {
		t.Fatalf("a sealed server answers %v, want 503", err)
	}
}
