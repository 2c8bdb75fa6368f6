package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
	"github.com/patchbay-dev/patchbay/vault"
)

// world is one installation on real servers, as an operator would set it up:
// a login per role, a Vault role per role.
type world struct {
	*host
	binary, bare string
	pg           *testenv.PostgresServer
	redis        *testenv.RedisServer
	vault        *testenv.VaultServer
	kit          *tenanttest.Kit
	db           database
	mount        string
	reader       testenv.AppRole // a sidecar's
	writer       testenv.AppRole // the control plane's
	configs      int
}

// database is one migrated database with a login per role.
type database struct {
	name                  string
	owner, sidecar, admin string // URLs
	superuser             string // ditto; row-level security doesn't bind it
}

// newDatabase makes and migrates a database on a server.
func (w *world) newDatabase(pg *testenv.PostgresServer) database {
	d := database{owner: pg.NewDatabase(w)}
	d.name = d.owner[strings.LastIndex(d.owner, "/")+1 : strings.Index(d.owner, "?")]
	d.superuser = pg.URL("postgres", d.name)
	w.configs++
	config := w.file(fmt.Sprintf("migrate-%d.yaml", w.configs),
		fmt.Sprintf("postgres: {url_file: %s}\n", w.file(fmt.Sprintf("owner-%d", w.configs), d.owner)))
	ctx, cancel := context.WithTimeout(w.ctx, patience)
	defer cancel()
	if out, err := exec.CommandContext(ctx, w.binary, "migrate", "--config", config).CombinedOutput(); err != nil {
		w.Fatalf("migrate: %w\n%s", err, out)
	}
	login := func(role, groups string) string {
		w.must(pg.Exec("CREATE ROLE " + d.name + role + " LOGIN IN ROLE " + groups))
		w.Cleanup(func() { _ = pg.Exec("DROP ROLE IF EXISTS " + d.name + role) }) // its server ends anyway
		return pg.URL(d.name+role, d.name)
	}
	d.sidecar = login("_sidecar", "patchbay_sidecar")
	d.admin = login("_admin", "patchbay_admin, patchbay_relay")
	return d
}

func newWorld(h *host) *world {
	w := &world{host: h, kit: tenanttest.New(h)}
	w.binary, w.bare = h.build("sidecar", "cmd/sidecar"), h.build("bare", "bench/bare")
	w.redis, w.pg, w.vault = testenv.NewRedis(h), testenv.Postgres(h), testenv.Vault(h)
	w.db = w.newDatabase(w.pg)
	w.file("jwks.json", string(w.kit.JWKS()))
	w.mount = w.vault.NewMount(h)
	data, metadata := w.mount+"/data/patchbay/*", w.mount+"/metadata/patchbay/*"
	reads := w.vault.NewPolicy(h, fmt.Sprintf("path %q { capabilities = [\"read\"] }\npath %q { capabilities = [\"read\"] }", data, metadata))
	writes := w.vault.NewPolicy(h, fmt.Sprintf("path %q { capabilities = [\"create\", \"read\", \"update\", \"delete\"] }\npath %q { capabilities = [\"read\", \"list\", \"delete\"] }\n"+
		"path %q { capabilities = [\"update\"] }", data, metadata, w.mount+"/destroy/patchbay/+/+/grant"))
	w.reader = w.vault.NewAppRole(h, map[string]any{"token_ttl": "1h", "token_type": "batch"}, reads)
	w.writer = w.vault.NewAppRole(h, map[string]any{"token_ttl": "1h"}, writes)
	return w
}

// servers are the addresses that a config names; proxies stand in for some.
type servers struct{ postgres, redis, vault string }

func (w *world) servers(postgres string) servers {
	return servers{postgres, w.redis.URL(), w.vault.Addr}
}

// config writes a config file: everything not named is the default.
func (w *world) config(s servers, role testenv.AppRole) string {
	w.configs++
	n := w.configs
	return w.file(fmt.Sprintf("config-%d.yaml", n), fmt.Sprintf(`jwt:
  issuers:
    - {issuer: patchbay-dev, jwks_file: %s, audiences: [patchbay], algorithms: [ES256]}
postgres: {url_file: %s}
redis: {url_file: %s}
vault: {address: %q, mount: %s, auth: {method: approle, mount: %s, role_id: %s, secret_id_file: %s}}
drain: 5s
`, filepath.Join(w.dir, "jwks.json"), w.file(fmt.Sprintf("pg-%d", n), s.postgres), w.file(fmt.Sprintf("redis-%d", n), s.redis),
		s.vault, w.mount, role.Mount, role.RoleID, w.file(fmt.Sprintf("secret-id-%d", n), role.SecretID)))
}

// serve starts a data plane on the real servers.
func (w *world) serve(mask uint64) *process {
	return w.sidecar(mask, w.config(w.servers(w.db.sidecar), w.reader), "serve")
}

// token is an ES256 JWT of the i-th tenant.
func (w *world) token(i int) string {
	return w.kit.Token(tenanttest.Claims{Tenant: tenantName(i), Organization: organization, TTL: 2 * time.Hour})
}

// What seed makes is found again by number.
const organization = "hq"

func tenantName(i int) string { return fmt.Sprintf("tenant-%d", i) }

// The n-th connector has these, n counting from 0 over all tenants.
func connectorID(n int) string { return fmt.Sprintf("01980000-0000-7000-8000-%012x", n) }
func pin(n int) string         { return fmt.Sprintf("%026d", n) }

// seed fills a migrated database with tenants of one organization and a number
// of connectors each: a default s3 and a default smtp, the others beside them.
// The rows are what the store writes; the statements are generate_series because
// a million of them have to be there in seconds. Foreign keys hold by
// construction and are not checked again.
func (h *host) seed(superuser string, tenants, connectors int) {
	conn, err := pgx.Connect(h.ctx, superuser)
	h.must(err)
	defer func() { _ = conn.Close(h.ctx) }() // everything is committed
	exec := func(sql string, args ...any) {
		if _, err := conn.Exec(h.ctx, sql, args...); err != nil {
			h.Fatalf("seed: %w", err)
		}
	}
	exec(`SET session_replication_role = replica`)
	exec(`INSERT INTO tenants (id, name, status, revision)
		SELECT 'tenant-' || i, 'Tenant ' || i, 'ready', (extract(epoch FROM clock_timestamp()) * 1000)::bigint
		FROM generate_series(0, $1::int - 1) i`, tenants)
	exec(`INSERT INTO organizations (tenant_id, id, name, active)
		SELECT 'tenant-' || i, '`+organization+`', 'Headquarters', true FROM generate_series(0, $1::int - 1) i`, tenants)
	exec(`INSERT INTO connectors (tenant_id, id, external_id, name, category, kind, schema_version, organization_id, state, active, is_default, pin, version)
		SELECT 'tenant-' || n / $2, ('01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'connector_' || n,
			CASE n % $2 % 2 WHEN 0 THEN 'Object store ' ELSE 'Mail relay ' END || n % $2,
			CASE n % $2 % 2 WHEN 0 THEN 'storage' ELSE 'email' END, CASE n % $2 % 2 WHEN 0 THEN 's3' ELSE 'smtp' END,
			1, '`+organization+`', 'connected', true, n % $2 < 2, lpad(n::text, 26, '0'), 1
		FROM generate_series(0, $1::int * $2::int - 1) n`, tenants, connectors)
	exec(`INSERT INTO connector_params (tenant_id, connector_id, name, value, imported, secret_version, writer, updated_at)
		SELECT 'tenant-' || n / $2, ('01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, p.name,
			to_jsonb(p.value), to_jsonb(p.value), CASE WHEN p.value IS NULL THEN 1 END, 'import', now()
		FROM generate_series(0, $1::int * $2::int - 1) n, LATERAL (
			SELECT s3.name, s3.value FROM (VALUES ('bucket', 'bucket-of-tenant-' || n), ('region', 'us-east-1'), ('prefix', 'uploads/'),
				('access_key_id', NULL), ('secret_access_key', NULL)) s3 (name, value) WHERE n % $2 % 2 = 0
			UNION ALL
			SELECT smtp.name, smtp.value FROM (VALUES ('host', 'smtp-' || n || '.example.com'), ('username', 'mailer'), ('from', 'no-reply@example.com'),
				('password', NULL)) smtp (name, value) WHERE n % $2 % 2 = 1) p`, tenants, connectors)
	// Nothing here has a grant, but an empty table has plans of its own.
	exec(`INSERT INTO oauth_grants (tenant_id, connector_id, status)
		SELECT 'tenant-' || n / $2, ('01980000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'active'
		FROM generate_series(0, $1::int * $2::int - 1) n WHERE n % 10 = 9`, tenants, connectors)
	exec(`VACUUM (ANALYZE)`)
}

// seedSecrets writes the bundles that the first n seeded connectors pin.
func (w *world) seedSecrets(n int) {
	store, err := vault.Open(w.ctx, vault.Options{Address: w.vault.Addr, Mount: w.mount, Auth: vault.Auth{
		Method: vault.AuthAppRole, MountPath: w.writer.Mount, RoleID: w.writer.RoleID, SecretIDFile: w.file("writer", w.writer.SecretID)}})
	w.must(err)
	defer func() { _ = store.Close() }() // forgets its token
	w.eventually("logged in to Vault", func() bool { return store.Ready(w.ctx) == nil })
	g, ctx := errgroup.WithContext(w.ctx)
	g.SetLimit(16)
	for i := range n {
		ref := refOf(w.host, i)
		g.Go(func() error { return store.Write(ctx, ref, bundleOf(i)) })
	}
	w.must(g.Wait())
}

// refOf is where the i-th connector's secrets are, with two connectors a tenant.
func refOf(h *host, i int) connector.SecretRef {
	id, err := connector.ParseID(connectorID(i))
	h.must(err)
	p, err := connector.ParsePin(pin(i))
	h.must(err)
	return connector.SecretRef{Tenant: tenant.MustID(tenantName(i / 2)), Connector: id, Pin: p}
}

func bundleOf(i int) vault.Bundle {
	if i%2 == 1 {
		return vault.Bundle{Values: secret.Map{"password": secret.New(fmt.Sprintf("password-%032d", i))}}
	}
	return vault.Bundle{Values: secret.Map{
		"access_key_id":     secret.New(fmt.Sprintf("AKIA%016d", i)),
		"secret_access_key": secret.New(fmt.Sprintf("%040d", i)),
	}}
}
