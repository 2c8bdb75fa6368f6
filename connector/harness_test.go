package connector_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/connector/sqlite"
	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
	"github.com/patchbay-dev/patchbay/vault/sealed"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const patience = 30 * time.Second

var (
	acme   = tenant.MustID("acme")
	globex = tenant.MustID("globex")
	hq     = tenant.MustOrganizationID("hq")
	labs   = tenant.MustOrganizationID("labs")
	whole  tenant.OrganizationID
)

// canary is part of every secret of these tests.
const canary = "CANARY-7f3a"

func hidden(s string) secret.Value { return secret.New(canary + "-" + s) }

// lab is a kind with every feature that the lifecycle has rules for. What it does
// when it is called is the test's to say.
type lab struct {
	providers.Base
	schema *providers.Schema

	mu   sync.Mutex
	test func(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error)
	hook func(ctx context.Context, action string, c providers.Config) error
	seen []secret.Map // what tests were given
}

func newLab(version int) *lab {
	oauth := providers.Equals("mode", "oauth")
	key := providers.Equals("mode", "key")
	l := &lab{schema: &providers.Schema{
		Kind: "lab", Aliases: []providers.Kind{"laboratory"}, Category: providers.Storage, Label: "Lab", Version: 1,
		AuthModes: []providers.AuthMode{{Name: "oauth2", Grant: true, When: &oauth}, {Name: "static", When: &key}},
		Egress:    providers.Egress{FromParams: []string{"host"}},
		Tests:     []providers.TestLevel{{Level: 1, Label: "Reach"}, {Level: 3, Label: "Write", SideEffects: true}},
		Params: []providers.Param{
			{Name: "host", Aliases: []string{"server"}, Type: providers.Host, Required: true, AffectsConnection: true, BindsSecrets: []string{"password", "token"}},
			{Name: "port", Type: providers.Port, Default: int64(443), AffectsConnection: true, BindsSecrets: []string{"password"}},
			{Name: "tls", Type: providers.Bool, Default: true, BindsSecrets: []string{"password"}},
			{Name: "mode", Type: providers.Enum, Default: "key", AffectsConnection: true, Options: []providers.Option{{Value: "key"}, {Value: "oauth"}, {Value: "machine"}}},
			{Name: "client_id", Type: providers.String, VisibleWhen: &oauth, RequiredWhen: &oauth, AffectsConnection: true},
			{Name: "region", Type: providers.String, Immutable: true},
			{Name: "note", Type: providers.String},
			{Name: "ratio", Type: providers.Number},
			{Name: "headers", Type: providers.MapOf},
			{Name: "proxy", Type: providers.Host, BindsSecrets: []string{"password"}}, // has no default
		},
		Secrets: []providers.Param{
			{Name: "password", Type: providers.String, Required: true, AffectsConnection: true},
			{Name: "token", Type: providers.String},
		},
		Imports: []providers.ImportFormat{{Name: "nested", Label: "Nested"}},
	}}
	if version == 2 {
		s := l.schema
		s.Version = 2
		s.Params[6].Name = "remark"
		s.Secrets[1].Name = "bearer"
		s.Params[0].BindsSecrets = []string{"password", "bearer"}
		s.Upgrades = []providers.Upgrade{{
			From:    1,
			Secrets: map[string]string{"token": "bearer"},
			Params: func(p map[string]any) error {
				if v, ok := p["note"]; ok {
					delete(p, "note")
					p["remark"] = v
				}
				return nil
			},
		}}
	}
	return l
}

func (l *lab) Schema() *providers.Schema { return l.schema }

func (l *lab) Backend(ctx context.Context, c providers.Config) (providers.Backend, error) {
	if c.Text("mode") == "oauth" {
		return providers.WithToken(ctx, c)
	}
	return providers.Direct(c), nil
}

func (l *lab) OAuth(c providers.Config) (providers.OAuthApp, bool, error) {
	switch c.Text("mode") {
	case "key":
		return providers.OAuthApp{}, false, nil
	case "machine":
		return providers.OAuthApp{Flow: providers.FlowClientCredentials, ClientSecret: c.Secrets["password"], TokenURL: "https://" + c.Text("host") + "/token"}, true, nil
	}
	app := providers.OAuthApp{Flow: providers.FlowConsent, ClientID: c.Text("client_id"), ClientSecret: c.Secrets["password"],
		TokenURL: "https://" + c.Text("host") + "/token", Rotates: true}
	if c.Text("note") == "revocable" {
		app.RevokeURL = "https://" + c.Text("host") + "/revoke"
	}
	return app, true, nil
}

func (l *lab) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	l.mu.Lock()
	l.seen = append(l.seen, c.Secrets.Clone())
	test := l.test
	l.mu.Unlock()
	if test != nil {
		return test(ctx, c, o)
	}
	t := providers.NewTest(ctx, c, o)
	t.Step("connect", func(context.Context) providers.Outcome { return providers.Good() })
	if c.Text("mode") != "key" {
		t.Step("token", func(ctx context.Context) providers.Outcome {
			_, err := c.Token(ctx)
			return providers.TokenOutcome(err)
		})
	}
	return t.Report("Connected"), nil
}

func (l *lab) turn(ctx context.Context, action string, c providers.Config) error {
	l.mu.Lock()
	hook := l.hook
	l.mu.Unlock()
	if hook != nil {
		return hook(ctx, action, c)
	}
	return nil
}

func (l *lab) Activate(ctx context.Context, c providers.Config) error {
	return l.turn(ctx, "activate", c)
}

func (l *lab) Deactivate(ctx context.Context, c providers.Config) error {
	return l.turn(ctx, "deactivate", c)
}

func (l *lab) ImportConfig(ctx context.Context, raw map[string]any) (map[string]any, error) {
	if err := l.turn(ctx, "import", providers.Config{}); err != nil {
		return nil, err
	}
	return l.schema.Flatten(raw)
}

func (l *lab) tests(fn func(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.test = fn
}

func (l *lab) hooks(fn func(ctx context.Context, action string, c providers.Config) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hook = fn
}

// finds makes the tests end with one finding.
func (l *lab) finds(code providers.TestCode) {
	l.tests(func(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
		t := providers.NewTest(ctx, c, o)
		t.Step("auth", func(context.Context) providers.Outcome { return providers.Failed(code, "") })
		return t.Report("Connected"), nil
	})
}

// last is what the last test was given.
func (l *lab) last() secret.Map {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.seen) == 0 {
		return nil
	}
	return l.seen[len(l.seen)-1]
}

// plain is a second kind of the same category, without a test.
type plain struct{ providers.Base }

var plainSchema = &providers.Schema{Kind: "plain", Category: providers.Storage, Label: "Plain", Version: 1,
	Params: []providers.Param{{Name: "path", Type: providers.String}}}

func (plain) Schema() *providers.Schema { return plainSchema }
func (plain) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	return providers.Direct(c), nil
}

// mint gives tokens and remembers for what.
type mint struct {
	mu      sync.Mutex
	refs    []connector.GrantRef
	revoked []connector.GrantRef
	away    error // of Revoke
	codes   []string
	refuses error // of Connect
	version int64 // of the last grant

	during   func() // runs once while a code is redeemed
	unproven error  // of Prove
	proofs   int
	drafts   int

	forgotten []connector.GrantRef
	keeps     error // of Forget
}

func (m *mint) NewVerifier() secret.Value { return hidden("verifier") }

func (m *mint) Prove(context.Context, connector.GrantRef, providers.OAuthApp) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.proofs++
	return m.unproven
}

func (m *mint) ConsentURL(app providers.OAuthApp, redirectURL, state string, _ secret.Value) string {
	return app.AuthURL + "?client_id=" + app.ClientID + "&redirect_uri=" + redirectURL + "&state=" + state
}

func (m *mint) Connect(_ context.Context, _ connector.GrantRef, _ providers.OAuthApp, code, verifier secret.Value, redirectURL string) (int64, error) {
	if fn := m.during; fn != nil {
		m.during = nil
		fn()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuses != nil {
		return 0, m.refuses
	}
	if !verifier.Equal(hidden("verifier")) {
		return 0, errBoom
	}
	m.codes = append(m.codes, code.Reveal()+" "+redirectURL)
	m.version++
	return m.version, nil
}

func (m *mint) Source(ref connector.GrantRef, app providers.OAuthApp) providers.TokenSource {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refs = append(m.refs, ref)
	return minted{ref, app.Flow}
}

// last is the reference that the last token was asked for with.
func (m *mint) last() connector.GrantRef {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.refs[len(m.refs)-1]
}

func (m *mint) Revoke(_ context.Context, ref connector.GrantRef, app providers.OAuthApp) (connector.Revocation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.away != nil {
		return connector.RevocationFailed, m.away
	}
	m.revoked = append(m.revoked, ref)
	if app.RevokeURL == "" {
		return connector.ForgottenOnly, nil
	}
	return connector.Revoked, nil
}

func (m *mint) Draft(app providers.OAuthApp) providers.TokenSource {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drafts++
	return minted{flow: app.Flow}
}

func (m *mint) Forget(_ context.Context, ref connector.GrantRef) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgotten = append(m.forgotten, ref)
	return m.keeps
}

type minted struct {
	ref  connector.GrantRef
	flow providers.OAuthFlow
}

func (m minted) Token(context.Context) (providers.Token, error) {
	if m.ref.GrantVersion == 0 && m.flow == providers.FlowConsent {
		return providers.Token{}, &providers.TokenError{Code: providers.CodeConsentMissing,
			Err: fault.New(fault.NeedsReauthorization, "no account is connected yet")}
	}
	return providers.Token{Access: hidden("token"), Type: "Bearer", ExpiresAt: time.Now().Add(time.Hour)}, nil
}

// syncBuffer is a log that goroutines share.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// world is a service over real stores, with two tenants of two organizations.
type world struct {
	*testing.T
	store   connector.Store
	secrets vault.Store
	lab     *lab
	mint    *mint
	log     *syncBuffer
	roots   *x509.CertPool // who signs the servers of the test; nil: the system's
	svc     *connector.Service
	sc      connector.Scope // all of acme
}

func (w *world) ctx() context.Context {
	ctx, cancel := context.WithTimeout(w.Context(), 2*patience)
	w.Cleanup(cancel)
	return ctx
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%v (code %s)", err, fault.CodeOf(err))
	}
}

func (w *world) code(err error, want fault.Code, doing string) {
	w.Helper()
	if fault.CodeOf(err) != want {
		w.Errorf("%s: got %v (code %q), want code %q", doing, err, fault.CodeOf(err), want)
	}
	if err != nil && strings.Contains(fmt.Sprintf("%v %+v %s", err, err, fault.Message(err)), canary) {
		w.Errorf("%s: the error holds a secret: %v", doing, err)
	}
}

func (w *world) violations(err error, doing string, want ...string) {
	w.Helper()
	var got []string
	for _, v := range fault.Violations(err) {
		got = append(got, v.Pointer+" "+v.Code)
	}
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		w.Errorf("%s: %v (%v), want %v", doing, got, err, want)
	}
}

// service makes another service over the same stores.
func (w *world) service(change func(o *connector.ServiceOptions)) *connector.Service {
	w.Helper()
	dialer, err := egress.New(egress.Config{AnyLoopback: true})
	w.ok(err)
	all := []providers.Provider{w.lab, plain{}}
	for _, p := range builtin.Providers() {
		if p.Schema().Kind == "smtp" {
			all = append(all, p)
		}
	}
	kinds, err := providers.NewRegistry(all...)
	w.ok(err)
	rt := providers.Runtime{DialContext: dialer.DialContext, Transport: dialer.Transport(), Roots: w.roots}
	o := connector.ServiceOptions{
		Store: w.store, Secrets: w.secrets, Kinds: kinds.Bind(rt), NewPin: vault.NewPin, Tokens: w.mint,
		Log: slog.New(slog.NewTextHandler(w.log, nil)), TestsPerMinute: 10000, TestsInFlight: 1000,
	}
	if change != nil {
		change(&o)
	}
	svc, err := connector.NewService(o)
	w.ok(err)
	return svc
}

// both runs a test over the embedded store and over Postgres.
func both(t *testing.T, test func(w *world)) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) connector.Store{"sqlite": openSQLite, "postgres": openPostgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secrets, err := sealed.Open(filepath.Join(t.TempDir(), "secrets"), sealed.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = secrets.Close() })
			w := &world{T: t, store: open(t), secrets: secrets, lab: newLab(1), mint: &mint{}, log: &syncBuffer{}}
			w.svc = w.service(nil)
			w.sc = connector.Scope{Tenant: acme, AllOrganizations: true, Actor: "https://id.example amy", Request: "req-1"}
			_, err = w.store.Change(w.ctx(), connector.Change{Actor: "test", Create: []connector.Tenant{
				{ID: acme, Name: "Acme", Status: connector.StatusReady}, {ID: globex, Name: "Globex", Status: connector.StatusReady},
			}}, func(ctx context.Context, tx connector.Tx) error {
				for _, id := range []tenant.ID{acme, globex} {
					for _, org := range []tenant.OrganizationID{hq, labs} {
						if err := tx.Tenant(id).PutOrganization(ctx, connector.Organization{ID: org, Name: org.String(), Active: true}); err != nil {
							return err
						}
					}
				}
				return nil
			})
			w.ok(err)
			test(w)
			w.searchForCanaries()
		})
	}
}

func openSQLite(t *testing.T) connector.Store {
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// openPostgres is a control plane's login, which owns nothing.
func openPostgres(t *testing.T) connector.Store {
	pg := testenv.Postgres(t)
	owner := pg.NewDatabase(t)
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal(err)
	}
	for _, role := range []string{"patchbay_sidecar", "patchbay_admin", "patchbay_relay"} {
		_ = pg.Exec("CREATE ROLE " + role + " NOLOGIN") // another test's may be there
		if err := pg.Exec("GRANT " + role + " TO " + u.User.Username()); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.Migrate(t.Context(), secret.New(owner), nil); err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	login := database + "_service"
	if err := pg.Exec("CREATE ROLE " + login + " LOGIN IN ROLE patchbay_admin, patchbay_relay"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pg.Exec("DROP ROLE " + login) }) // the server goes anyway
	// One connection: whoever asks the store from within a transaction waits for
	// ever, and not only when others are at work.
	store, err := postgres.Open(t.Context(), postgres.Options{URL: secret.New(pg.URL(login, database)), MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// searchForCanaries looks for secrets in whatever a test left behind.
func (w *world) searchForCanaries() {
	w.Helper()
	if strings.Contains(w.log.String(), canary) {
		w.Errorf("a secret is in the log:\n%s", w.log)
	}
	reader := w.store.Tenant(acme)
	list, err := reader.List(w.ctx(), connector.Filter{IncludeDeleted: true})
	w.ok(err)
	audit, err := reader.Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
	w.ok(err)
	left := fmt.Sprintf("%+v\n%+v", list, audit)
	for _, c := range list {
		history, err := reader.History(w.ctx(), c.ID, 0, 0)
		w.ok(err)
		left += fmt.Sprintf("\n%+v %s", history, c.LastTest)
		for _, r := range history {
			left += string(r.Connector.LastTest)
		}
	}
	if i := strings.Index(left, canary); i >= 0 {
		w.Errorf("a secret is in what is stored: ...%s", left[max(0, i-200):i+20])
	}
}

func (w *world) draft(name string, org tenant.OrganizationID) connector.Draft {
	return connector.Draft{Name: name, Kind: "lab", Organization: org, Params: map[string]any{"host": "one.example"},
		Secrets: secret.Map{"password": hidden("first")}}
}

// create makes an inactive connector.
func (w *world) create(name string, org tenant.OrganizationID) connector.Connector {
	w.Helper()
	out, err := w.svc.Create(w.ctx(), w.sc, w.draft(name, org))
	w.ok(err)
	return out.Connector
}

// live makes one that is tested and active.
func (w *world) live(name string, org tenant.OrganizationID, isDefault bool) connector.Connector {
	w.Helper()
	d := w.draft(name, org)
	yes := true
	d.Active, d.Default = &yes, isDefault
	out, err := w.svc.Create(w.ctx(), w.sc, d)
	w.ok(err)
	return out.Connector
}

func (w *world) get(id connector.ID) connector.Connector {
	w.Helper()
	c, err := w.svc.Get(w.ctx(), w.sc, id)
	w.ok(err)
	return c
}

func (w *world) tested(id connector.ID) connector.TestResult {
	w.Helper()
	r, err := w.svc.TestConnection(w.ctx(), w.sc, id, connector.TestOptions{})
	w.ok(err)
	return r
}

func (w *world) bundle(c connector.Connector) connector.Bundle {
	w.Helper()
	b, err := w.secrets.Read(w.ctx(), connector.SecretRef{Tenant: acme, Connector: c.ID, Pin: c.Pin})
	w.ok(err)
	return b
}

func (w *world) revision() int64 {
	w.Helper()
	r, err := w.store.Revisions(w.ctx(), []tenant.ID{acme})
	w.ok(err)
	return r.Revision[acme]
}

// change writes past the service, as an importer or another process would.
func (w *world) change(fn func(ctx context.Context, tx connector.TenantTx) error) {
	w.Helper()
	_, err := w.store.Change(w.ctx(), connector.Change{Tenants: []tenant.ID{acme}, Actor: "test", SecretsWritten: time.Now()},
		func(ctx context.Context, tx connector.Tx) error { return fn(ctx, tx.Tenant(acme)) })
	w.ok(err)
}

func (w *world) alter(id connector.ID, fn func(c *connector.Connector)) connector.Connector {
	w.Helper()
	version := w.get(id).Version
	w.change(func(ctx context.Context, tx connector.TenantTx) error {
		return tx.Update(ctx, id, version, func(c *connector.Connector) error { fn(c); return nil })
	})
	return w.get(id)
}

// audited finds the entries of an action on a target.
func (w *world) audited(action string, id connector.ID) (found []connector.AuditEntry) {
	w.Helper()
	all, err := w.store.Tenant(acme).Audit(w.ctx(), connector.AuditFilter{Limit: 1000})
	w.ok(err)
	for _, e := range all {
		if e.Action == action && (id.IsZero() || e.Target == id.String()) {
			found = append(found, e)
		}
	}
	return found
}

// until polls for what another goroutine must bring about.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("never happened: %s", what)
		}
	}
}

func ptr[T any](v T) *T { return &v }

var errBoom = errors.New("boom " + canary)
