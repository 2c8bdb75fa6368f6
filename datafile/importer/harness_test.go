package importer_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/connector/sqlite"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
	"github.com/patchbay-dev/patchbay/vault/sealed"
)

var (
	acme    = tenant.MustID("acme")
	globex  = tenant.MustID("globex")
	acmeOrg = tenant.MustOrganizationID("acme")
)

// counted is a secret store whose writes are counted and can be made to fail.
type counted struct {
	vault.Store
	writes atomic.Int64
	fail   func(n int64) error // asked with the number of the write; nil: none fails
}

func (c *counted) Write(ctx context.Context, ref connector.SecretRef, b vault.Bundle) error {
	n := c.writes.Add(1)
	if c.fail != nil {
		if err := c.fail(n); err != nil {
			return err
		}
	}
	return c.Store.Write(ctx, ref, b)
}

// refusing is a store whose transactions can be made to fail after their work.
type refusing struct {
	connector.Store
	err error // nil: none fails
}

func (r *refusing) Change(ctx context.Context, c connector.Change, fn func(context.Context, connector.Tx) error) (map[tenant.ID]int64, error) {
	return r.Store.Change(ctx, c, func(ctx context.Context, tx connector.Tx) error {
		if err := fn(ctx, tx); err != nil {
			return err
		}
		return r.err
	})
}

// world is an importer over two stores.
type world struct {
	*testing.T
	fresh func() *world // another world on stores of the same make
	im    *importer.Importer
	store *refusing
	vault *counted
	env   map[string]string
	files map[string]string // what ReadFile gives, by path
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := worldOf(t, pair(embedded(t)))
	w.fresh = func() *world { return newWorld(t) }
	return w
}

// embedded is the stores of `sidecar dev`.
func embedded(t *testing.T) (connector.Store, vault.Store) {
	t.Helper()
	dir := t.TempDir()
	store, err := sqlite.Open(t.Context(), filepath.Join(dir, "store.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	secrets, err := sealed.Open(filepath.Join(dir, "secrets"), sealed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = secrets.Close() })
	return store, secrets
}

// servers is a database and a mount of their own on a real Postgres and a real
// Vault, with the rights that `sidecar import` needs and no more.
func servers(t *testing.T) (connector.Store, vault.Store) {
	t.Helper()
	pg, vaultServer := testenv.Postgres(t), testenv.Vault(t)
	owner := pg.NewDatabase(t)
	if err := postgres.Migrate(t.Context(), secret.New(owner), nil); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	login := database + "_admin"
	if err := pg.Exec("CREATE ROLE " + login + " LOGIN IN ROLE patchbay_admin"); err != nil {
		t.Fatal(err)
	}
	store, err := postgres.Open(t.Context(), postgres.Options{URL: secret.New(pg.URL(login, database))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = store.Close()
		if err := pg.Exec("DROP ROLE " + login); err != nil {
			t.Error(err)
		}
	})
	mount := vaultServer.NewMount(t)
	policy := vaultServer.NewPolicy(t, fmt.Sprintf(`path "%[1]s/data/patchbay/*" { capabilities = ["create", "read", "update", "delete"] }
path "%[1]s/metadata/patchbay/*" { capabilities = ["read", "list", "delete"] }`, mount))
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(vaultServer.NewToken(t, map[string]any{"ttl": "1h"}, policy)), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets, err := vault.Open(t.Context(), vault.Options{Address: vaultServer.Addr, Mount: mount, Auth: vault.Auth{Method: vault.AuthToken, TokenFile: token}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = secrets.Close() })
	return store, secrets
}

func TestMain(m *testing.M) { testenv.Main(m) }

// core is what must hold whatever the stores are.
var core = map[string]func(t *testing.T, w *world){
	"example": exampleCase, "rotation": rotationCase, "default": defaultCase, "stale plan": staleCase,
	"rows": rowsCase, "deleted": deletedCase, "export": exportCase, "merge": mergeCase,
	"CSV files": csvCase, "failing secret store": failingVaultCase, "refused transaction": refusedCase, "bad file": badFileCase, "grant": grantCase,
}

func TestEmbedded(t *testing.T) { runCore(t, embedded) }

func TestServers(t *testing.T) { runCore(t, servers) }

func runCore(t *testing.T, stores func(t *testing.T) (connector.Store, vault.Store)) {
	t.Parallel()
	for name, run := range core {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := worldOf(t, pair(stores(t)))
			w.fresh = func() *world { return worldOf(t, pair(stores(t))) }
			run(t, w)
		})
	}
}

// stores is what a world stands on.
type stores struct {
	store   connector.Store
	secrets vault.Store
}

func pair(store connector.Store, secrets vault.Store) stores { return stores{store, secrets} }

func worldOf(t *testing.T, on stores) *world {
	t.Helper()
	store, secrets := &refusing{Store: on.store}, &counted{Store: on.secrets}
	kinds, err := builtin.Registry()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, store: store, vault: secrets, files: map[string]string{}, env: map[string]string{
		"S3_KEY": "canary-s3-key", "S3_SECRET": "canary-s3-secret", "SMTP_PASSWORD": "canary-smtp",
		"GLOBEX_S3_KEY": "canary-globex-key", "GLOBEX_S3_SECRET": "canary-globex-secret",
	}}
	w.im = &importer.Importer{
		Store: store, Secrets: secrets, Kinds: kinds,
		Env: func(name string) (string, bool) { v, ok := w.env[name]; return v, ok },
		ReadFile: func(path string) ([]byte, error) {
			if s, ok := w.files[path]; ok {
				return []byte(s), nil
			}
			return nil, os.ErrNotExist
		},
		Now: time.Now, NewID: connector.NewID, NewPin: vault.NewPin,
	}
	return w
}

func (w *world) parse(name, text string) *datafile.File {
	w.Helper()
	f, err := datafile.Parse(name, strings.NewReader(text), datafile.Limits{})
	if err != nil {
		w.Fatal(err)
	}
	return f
}

func (w *world) plan(text string, o importer.Options) *importer.Plan {
	w.Helper()
	p, err := w.im.Plan(w.Context(), w.parse("f.xml", text), o)
	if err != nil {
		w.Fatalf("plan:\n%v", err)
	}
	if s := p.String(); strings.Contains(s, "canary") {
		w.Errorf("the plan shows a secret:\n%s", s)
	}
	return p
}

func (w *world) apply(text string, o importer.Options) importer.Result {
	w.Helper()
	p := w.plan(text, o)
	r, err := w.im.Apply(w.Context(), p)
	if err != nil {
		w.Fatalf("apply:\n%v\n%s", err, p)
	}
	return r
}

// refuses expects a plan that fails with exactly these problems, and that nothing
// was written: no row, no revision, no secret.
func (w *world) refuses(text string, o importer.Options, want ...string) {
	w.Helper()
	before := w.state()
	p, err := w.im.Plan(w.Context(), w.parse("f.xml", text), o)
	if err == nil {
		w.Fatalf("accepted:\n%s", p)
	}
	if !errors.Is(err, fault.InvalidArgument) {
		w.Errorf("the code is %s: %v", fault.CodeOf(err), err)
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		w.Fatalf("got\n%s\nwant\n%s", err, strings.Join(want, "\n"))
	}
	for i, line := range lines {
		if line != want[i] {
			w.Errorf("got  %s\nwant %s", line, want[i])
		}
	}
	if strings.Contains(err.Error(), "canary") {
		w.Errorf("the error shows a value: %s", err)
	}
	if after := w.state(); after != before {
		w.Errorf("something was written:\n%s\nbecame\n%s", before, after)
	}
}

// state spells everything that the stores hold of every tenant.
func (w *world) state() string {
	w.Helper()
	var b strings.Builder
	tenants, err := w.store.Tenants(w.Context(), connector.TenantFilter{})
	if err != nil {
		w.Fatal(err)
	}
	for _, t := range tenants {
		r := w.store.Tenant(t.ID)
		orgs, err := r.Organizations(w.Context(), connector.OrganizationFilter{})
		if err != nil {
			w.Fatal(err)
		}
		connectors, err := r.List(w.Context(), connector.Filter{IncludeDeleted: true})
		if err != nil {
			w.Fatal(err)
		}
		fmt.Fprintf(&b, "%+v\n%+v\n", t, orgs)
		for _, c := range connectors {
			fmt.Fprintf(&b, "%+v\n", c)
			if !c.Pin.IsZero() {
				fmt.Fprintf(&b, "%v\n", w.secrets(t.ID, c).Names())
			}
		}
		fmt.Fprintf(&b, "%d bundles\n", w.alive(t.ID))
	}
	fmt.Fprintf(&b, "%d writes of secrets", w.vault.writes.Load())
	return b.String()
}

func (w *world) connector(t tenant.ID, external string) connector.Connector {
	w.Helper()
	list, err := w.store.Tenant(t).List(w.Context(), connector.Filter{ExternalID: external})
	if err != nil || len(list) != 1 {
		w.Fatalf("%s: %d found, %v", external, len(list), err)
	}
	return list[0]
}

func (w *world) secrets(t tenant.ID, c connector.Connector) secret.Map {
	w.Helper()
	b, err := w.vault.Read(w.Context(), connector.SecretRef{Tenant: t, Connector: c.ID, Pin: c.Pin})
	if err != nil {
		w.Fatal(err)
	}
	return b.Values
}

func (w *world) revision(t tenant.ID) int64 {
	w.Helper()
	r, err := w.store.Revisions(w.Context(), []tenant.ID{t})
	if err != nil {
		w.Fatal(err)
	}
	return r.Revision[t]
}

// edit changes a connector the way the admin API does.
func (w *world) edit(t tenant.ID, external string, fn func(c *connector.Connector)) {
	w.Helper()
	c := w.connector(t, external)
	_, err := w.store.Change(w.Context(), connector.Change{Tenants: []tenant.ID{t}, Actor: "test"},
		func(ctx context.Context, tx connector.Tx) error {
			return tx.Tenant(t).Update(ctx, c.ID, c.Version, func(c *connector.Connector) error { fn(c); return nil })
		})
	if err != nil {
		w.Fatal(err)
	}
}

// editParam sets a param the way the admin API does.
func editParam(name string, value any) func(*connector.Connector) {
	return func(c *connector.Connector) {
		p := c.Params[name]
		p.Value, p.Writer, p.UpdatedAt = value, connector.WriterAPI, time.Now().UTC()
		c.Params[name] = p
	}
}

// clearParam clears a param the way the admin API does.
func clearParam(name string) func(*connector.Connector) {
	return func(c *connector.Connector) {
		p := c.Params[name]
		if p.Value, p.Writer, p.UpdatedAt = nil, connector.WriterAPI, time.Now().UTC(); p.Imported == nil {
			delete(c.Params, name)
			return
		}
		c.Params[name] = p
	}
}

// editSecret rotates a secret the way the admin API does.
func (w *world) editSecret(t tenant.ID, external, name, value string) {
	w.Helper()
	c := w.connector(t, external)
	b, err := w.vault.Read(w.Context(), connector.SecretRef{Tenant: t, Connector: c.ID, Pin: c.Pin})
	if err != nil {
		w.Fatal(err)
	}
	b.Values = b.Values.Clone()
	b.Values[name] = secret.New(value)
	pin := vault.NewPin()
	if err := w.vault.Write(w.Context(), connector.SecretRef{Tenant: t, Connector: c.ID, Pin: pin}, b); err != nil {
		w.Fatal(err)
	}
	w.edit(t, external, func(c *connector.Connector) {
		c.Pin = pin
		s := c.Secrets[name]
		s.Version, s.Writer = s.Version+1, connector.WriterAPI
		c.Secrets[name] = s
	})
}

// alive counts the bundles of a tenant that are not deleted.
func (w *world) alive(t tenant.ID) int {
	w.Helper()
	n := 0
	ids, err := w.vault.Connectors(w.Context(), t)
	if err != nil {
		w.Fatal(err)
	}
	for _, id := range ids {
		refs, err := w.vault.Refs(w.Context(), t, id)
		if err != nil {
			w.Fatal(err)
		}
		for _, r := range refs {
			if r.DeletedAt.IsZero() {
				n++
			}
		}
	}
	return n
}

// s3 is a small file: tenant and organization acme with one bucket.
func s3(extra, config string) string {
	return header + `<record id="bucket" model="ir.connector">
<field name="name">Bucket</field>
<field name="kind">s3</field>
<field name="organization_id">acme</field>` + extra + `
<field name="config" eval="` + config + `"/>
</record></patchbay>`
}

const (
	header = `<patchbay><record id="t" model="gateway.tenant"><field name="key">acme</field></record>
<record id="o" model="res.organization"><field name="key">acme</field></record>
`
	plainS3 = `{'bucket': 'one', 'region': 'eu', 'access_key_id': '$ENV:S3_KEY', 'secret_access_key': '$ENV:S3_SECRET'}`
)
