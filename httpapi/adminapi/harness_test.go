package adminapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/sqlite"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/httpapi"
	"github.com/patchbay-dev/patchbay/httpapi/adminapi"
	"github.com/patchbay-dev/patchbay/httpapi/adminapi/apitest"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
	"github.com/patchbay-dev/patchbay/vault"
	"github.com/patchbay-dev/patchbay/vault/sealed"
)

const canary = "canary-secret-value"

// lab is a kind whose test answers what its param says, and one with a consent.
type lab struct {
	providers.Base
	schema *providers.Schema
}

func newLab() lab {
	oauth := providers.Equals("mode", "oauth")
	return lab{schema: &providers.Schema{
		Kind: "lab", Aliases: []providers.Kind{"laboratory"}, Category: providers.Storage, Label: "Lab", Version: 1,
		AuthModes: []providers.AuthMode{{Name: "oauth2", Grant: true, When: &oauth}},
		Tests:     []providers.TestLevel{{Level: 1, Label: "Reach"}},
		Params: []providers.Param{
			{Name: "host", Type: providers.Host, Required: true, AffectsConnection: true, BindsSecrets: []string{"password"}},
			{Name: "mode", Type: providers.Enum, Default: "key", AffectsConnection: true, Options: []providers.Option{{Value: "key"}, {Value: "oauth"}}},
			{Name: "port", Type: providers.Port, Default: int64(443), AffectsConnection: true},
			{Name: "note", Type: providers.String},
		},
		Secrets: []providers.Param{{Name: "password", Type: providers.String, AffectsConnection: true}, {Name: "client_secret", Type: providers.String}},
		Imports: []providers.ImportFormat{{Name: "nested", Label: "Nested"}},
	}}
}

func (l lab) Schema() *providers.Schema { return l.schema }

func (l lab) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	return providers.Direct(c), nil
}

func (l lab) ImportConfig(_ context.Context, raw map[string]any) (map[string]any, error) {
	return raw, nil
}

func (l lab) OAuth(c providers.Config) (providers.OAuthApp, bool, error) {
	if c.Params["mode"] != "oauth" {
		return providers.OAuthApp{}, false, nil
	}
	return providers.OAuthApp{Flow: providers.FlowConsent, ClientID: "client-1", AuthURL: "https://issuer.example/auth", TokenURL: "https://issuer.example/token"}, true, nil
}

func (l lab) TestConnection(_ context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	r := providers.TestReport{OK: true, Message: "Connected", Level: o.Level, Steps: []providers.TestStep{{Name: "connect", Status: providers.StepOK}}}
	if c.Params["host"] == "broken.example" {
		r.OK, r.Message = false, "It does not answer."
		r.Steps[0] = providers.TestStep{Name: "connect", Status: providers.StepFail, Code: providers.CodeTimeout, Hint: "h",
			Fix: &providers.Fix{Label: "Another port", Params: map[string]any{"port": int64(80)}}}
	}
	return r, nil
}

// grantor is an issuer that never refuses a code.
type grantor struct {
	mu      sync.Mutex
	version int64
}

func (g *grantor) Source(connector.GrantRef, providers.OAuthApp) providers.TokenSource { return g }
func (g *grantor) Token(context.Context) (providers.Token, error) {
	return providers.Token{Access: secret.New(canary), Type: "Bearer"}, nil
}
func (g *grantor) Revoke(context.Context, connector.GrantRef, providers.OAuthApp) (connector.Revocation, error) {
	return connector.Revoked, nil
}
func (g *grantor) Draft(providers.OAuthApp) providers.TokenSource                      { return g }
func (g *grantor) Forget(context.Context, connector.GrantRef) error                    { return nil }
func (g *grantor) Prove(context.Context, connector.GrantRef, providers.OAuthApp) error { return nil }
func (g *grantor) NewVerifier() secret.Value                                           { return secret.New("verifier") }
func (g *grantor) ConsentURL(app providers.OAuthApp, redirectURL, state string, _ secret.Value) string {
	return app.AuthURL + "?redirect_uri=" + redirectURL + "&state=" + state
}
func (g *grantor) Connect(context.Context, connector.GrantRef, providers.OAuthApp, secret.Value, secret.Value, string) (int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.version++
	return g.version, nil
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

// world is an admin API on embedded stores, with two tenants of two organizations.
type world struct {
	*testing.T
	base     string
	kit      *tenanttest.Kit
	store    connector.Store
	svc      *connector.Service
	document *apitest.Document
	client   *http.Client
	log      *syncBuffer
}

func newWorld(t *testing.T, change ...func(o *adminapi.Options)) *world {
	t.Helper()
	store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "store.db"), sqlite.Options{})
	must(t, err)
	t.Cleanup(func() { _ = store.Close() })
	secrets, err := sealed.Open(filepath.Join(t.TempDir(), "secrets"), sealed.Options{})
	must(t, err)
	t.Cleanup(func() { _ = secrets.Close() })
	kinds, err := providers.NewRegistry(append(builtin.Providers(), newLab())...)
	must(t, err)
	w := &world{T: t, kit: tenanttest.New(t), store: store, log: &syncBuffer{}}
	log := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.svc, err = connector.NewService(connector.ServiceOptions{
		Store: store, Secrets: secrets, Kinds: kinds, NewPin: vault.NewPin, Tokens: &grantor{}, Log: log, TestsPerMinute: 1000,
	})
	must(t, err)
	o := adminapi.Options{
		Verifier: w.kit.Verifier, Service: w.svc, Kinds: kinds, Log: log, Version: "1.2.3", PublicURL: "https://p.example",
		Files: &importer.Importer{Store: store, Secrets: secrets, Kinds: kinds, Now: time.Now, NewID: connector.NewID, NewPin: vault.NewPin},
	}
	for _, fn := range change {
		fn(&o)
	}
	surface, err := httpapi.NewAdmin(httpapi.AdminOptions{API: &o})
	must(t, err)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	served := make(chan error, 1)
	go func() { served <- surface.Serve(ln) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := surface.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		_ = ln.Close() // one that has not begun to serve knows no listener yet
		<-served
	})
	w.base = "http://" + ln.Addr().String()
	w.document = apitest.Parse(t, surface.API.Document())
	w.client = &http.Client{Transport: &apitest.Transport{T: t, Document: w.document}, Timeout: 30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	_, err = store.Change(t.Context(), connector.Change{Actor: "test", Create: []connector.Tenant{
		{ID: tenant.MustID("acme"), Name: "Acme", Status: connector.StatusReady}, {ID: tenant.MustID("globex"), Name: "Globex", Status: connector.StatusReady},
	}}, func(ctx context.Context, tx connector.Tx) error {
		for _, id := range []string{"acme", "globex"} {
			for _, org := range []string{"hq", "labs"} {
				if err := tx.Tenant(tenant.MustID(id)).PutOrganization(ctx, connector.Organization{ID: tenant.MustOrganizationID(org), Name: org, Active: true}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	must(t, err)
	return w
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// adminClaims are a token's: of acme's admin of all organizations, unless it says otherwise.
func adminClaims(change ...func(c *devissuer.Claims)) devissuer.Claims {
	c := devissuer.Claims{Tenant: "acme", Organization: "hq", Organizations: []string{"*"}, Subject: "amy",
		Roles: []string{"connectors.read", "connectors.write", "secrets.read"}, TTL: time.Hour}
	for _, fn := range change {
		fn(&c)
	}
	return c
}

// answer is a response, read.
type answer struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any
}

func (a answer) text(path ...string) string {
	s, _ := a.at(path...).(string)
	return s
}

func (a answer) at(path ...string) any {
	var v any = a.json
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}

// caller asks as somebody.
type caller struct {
	w     *world
	token string
}

func (w *world) as(c devissuer.Claims) *caller { return &caller{w, w.kit.Token(c)} }

// do asks. headers are pairs.
func (c *caller) do(method, path string, body any, headers ...string) answer {
	c.w.Helper()
	var in io.Reader
	contentType := ""
	switch b := body.(type) {
	case nil:
	case string:
		in, contentType = strings.NewReader(b), "application/json"
	default:
		text, err := json.Marshal(body)
		must(c.w, err)
		in, contentType = bytes.NewReader(text), "application/json"
	}
	req, err := http.NewRequestWithContext(c.w.Context(), method, c.w.base+path, in)
	must(c.w, err)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.w.client.Do(req)
	must(c.w, err)
	defer func() { _ = res.Body.Close() }() // in memory
	out := answer{status: res.StatusCode, header: res.Header}
	out.body, err = io.ReadAll(res.Body)
	must(c.w, err)
	_ = json.Unmarshal(out.body, &out.json) // not all is JSON
	return out
}

// want asks and wants a status.
func (c *caller) want(status int, method, path string, body any, headers ...string) answer {
	c.w.Helper()
	a := c.do(method, path, body, headers...)
	if a.status != status {
		c.w.Fatalf("%s %s: %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

// violations are a problem's, as "pointer code".
func (a answer) violations() (out []string) {
	list, _ := a.json["errors"].([]any)
	for _, v := range list {
		m, _ := v.(map[string]any)
		pointer, _ := m["pointer"].(string)
		code, _ := m["code"].(string)
		out = append(out, pointer+" "+code)
	}
	return out
}

// lab creates a lab connector and returns its id.
func (c *caller) lab(name, org string, change ...func(m map[string]any)) string {
	c.w.Helper()
	m := map[string]any{"name": name, "kind": "lab", "params": map[string]any{"host": "one.example"}, "secrets": map[string]any{"password": canary}}
	if org != "" {
		m["organization_id"] = org
	}
	for _, fn := range change {
		fn(m)
	}
	return c.want(201, "POST", "/api/connectors", m).text("id")
}
