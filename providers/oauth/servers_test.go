package oauth

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/vault"
)

// place says where the real servers are, with a data plane's rights: a Postgres
// login of patchbay_sidecar, and a Vault policy that reads everything and writes
// grants only.
type place struct {
	SidecarURL string
	VaultAddr  string
	Mount      string
	TokenFile  string
}

// newPlace makes a migrated database and a mount. adminURL is a control plane's.
func newPlace(t testing.TB, pg *testenv.PostgresServer, v *testenv.VaultServer) (p place, adminURL string) {
	t.Helper()
	owner := pg.NewDatabase(t)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	exec := func(statement string) {
		t.Helper()
		if err := pg.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	for _, role := range []string{"patchbay_sidecar", "patchbay_admin", "patchbay_relay"} {
		_ = pg.Exec("CREATE ROLE " + role + " NOLOGIN") // another test's may be there
		exec("GRANT " + role + " TO " + u.User.Username())
	}
	if err := postgres.Migrate(within(t, time.Minute), secret.New(owner), nil); err != nil {
		t.Fatal(err)
	}
	login := func(name, groups string) string {
		exec("CREATE ROLE " + name + " LOGIN IN ROLE " + groups)
		t.Cleanup(func() { _ = pg.Exec("DROP ROLE " + name) })
		return pg.URL(name, database)
	}
	p = place{SidecarURL: login(database+"_sidecar", "patchbay_sidecar"), VaultAddr: v.Addr, Mount: v.NewMount(t)}
	policy := v.NewPolicy(t, `path "`+p.Mount+`/data/patchbay/*" { capabilities = ["read"] }
path "`+p.Mount+`/data/patchbay/+/+/grant" { capabilities = ["create", "read", "update"] }`)
	p.TokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(p.TokenFile, []byte(v.NewToken(t, nil, policy)), 0o600); err != nil {
		t.Fatal(err)
	}
	return p, login(database+"_admin", "patchbay_admin, patchbay_relay")
}

func (p place) postgres(t testing.TB, url string, conns int32) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(context.Background(), postgres.Options{URL: secret.New(url), MaxConns: conns})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (p place) vault(t testing.TB) *vault.Client {
	t.Helper()
	v, err := vault.Open(context.Background(), vault.Options{Address: p.VaultAddr, Mount: p.Mount, Auth: vault.Auth{Method: vault.AuthToken, TokenFile: p.TokenFile}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = v.Close() })
	return v
}

// newRealWorld is a world on real servers, whose managers have a data plane's rights.
func newRealWorld(t testing.TB, pg *testenv.PostgresServer, v *testenv.VaultServer, app providers.OAuthApp) (*world, place) {
	t.Helper()
	p, admin := newPlace(t, pg, v)
	w := worldOn(t, p.postgres(t, admin, 4), p.vault(t), app)
	w.lease.Lease = p.postgres(t, p.SidecarURL, 16)
	return w, p
}
