package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/providers/oauth"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// life is that of access tokens here.
const life = 5 * time.Second

// cacheKeyPath is where the key for shared tokens lies, below the mount.
const cacheKeyPath = "patchbay/cache-key"

// newCacheKey writes a key for shared tokens, and returns it in base64.
func (f *fleet) newCacheKey() string {
	f.Helper()
	raw := make([]byte, 32)
	_, _ = rand.Read(raw) // it never fails
	key := base64.StdEncoding.EncodeToString(raw)
	f.vault.Do(f, "POST", f.mount+"/data/"+cacheKeyPath, map[string]any{"data": map[string]any{"key": key}})
	return key
}

// portOf is the port of a URL.
func portOf(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil || u.Port() == "" {
		t.Fatalf("%s has no port: %v", raw, err)
	}
	return u.Port()
}

// mailbox is a tenant with an account at an issuer, and the control plane's
// rights, with which a user's consents are stored.
type mailbox struct {
	f       *fleet
	i       *issuer
	token   string // a JWT of the tenant
	tenant  tenant.ID
	id      connector.ID
	app     providers.OAuthApp
	store   *postgres.Store
	secrets *vault.Client
	tokens  *oauth.Manager
	said    []string // of commands
}

// mailFile is a data file: tenant, organization "hq", a mailbox that waits for
// its consent and a bucket that needs none.
const mailFile = `<patchbay><data>
  <record id="t" model="gateway.tenant"><field name="key">initech</field></record>
  <record id="o" model="res.organization"><field name="key">hq</field><field name="tenant_id" ref="t"/></record>
  <record id="initech_mail" model="ir.connector">
    <field name="name">Mail</field><field name="category">email</field><field name="kind">microsoft_graph_mail</field>
    <field name="organization_id" ref="o"/><field name="is_default">true</field>
    <field name="config" eval="{'client_id': 'web', 'client_secret': '$ENV:MAIL_SECRET'}"/>
  </record>
  <record id="initech_s3" model="ir.connector">
    <field name="name">Bucket</field><field name="category">storage</field><field name="kind">s3</field>
    <field name="organization_id" ref="o"/><field name="is_default">true</field>
    <field name="config" eval="{'bucket': 'acme-prod', 'region': 'us-east-1', 'access_key_id': 'AK', 'secret_access_key': 'secret'}"/>
  </record>
</data></patchbay>`

// newMailbox imports the tenant. Nobody has consented yet.
func (f *fleet) newMailbox(i *issuer) *mailbox {
	f.Helper()
	m := &mailbox{f: f, i: i, token: f.token("initech", "hq")}
	o := f.importFile(f.file("mail.xml", mailFile), "MAIL_SECRET="+clientSecret).ok(f)
	m.said = append(m.said, o.out, o.err)
	var err error
	if m.tenant, err = tenant.ParseID("initech"); err != nil {
		f.Fatal(err)
	}
	m.store = f.openStore("admin")
	m.secrets = f.openVault("admin")
	// The issuer is the test's own: there is no policy to go through.
	client := providers.Runtime{Transport: client.Transport}.Client()
	if m.tokens, err = oauth.New(oauth.Options{Lease: m.store, Grants: m.secrets, Client: client}); err != nil {
		f.Fatal(err)
	}
	list, err := m.store.Tenant(m.tenant).List(f.Context(), connector.Filter{Category: "email"})
	if err != nil || len(list) != 1 {
		f.Fatal(list, err)
	}
	m.id = list[0].ID
	kinds, err := builtin.Registry()
	if err != nil {
		f.Fatal(err)
	}
	kind, _ := kinds.Bind(providers.Runtime{Endpoints: map[string]string{"microsoft_graph_mail": i.url}}).Lookup("microsoft_graph_mail")
	cfg, err := kind.Schema().Decode(providers.Input{
		Params: map[string]any{"client_id": clientID}, Secrets: secret.Map{"client_secret": secret.New(clientSecret)},
	}, providers.DecodeOptions{})
	if err != nil {
		f.Fatal(err)
	}
	authorizer, _ := kind.(providers.Authorizer)
	if m.app, _, err = authorizer.OAuth(cfg); err != nil {
		f.Fatal(err)
	}
	return m
}

// openStore opens the database with a login.
func (f *fleet) openStore(login string) *postgres.Store {
	f.Helper()
	s, err := postgres.Open(f.Context(), postgres.Options{URL: secret.New(f.logins[login])})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = s.Close() }) // the server may be gone
	return s
}

// openVault logs in with a role.
func (f *fleet) openVault(role string) *vault.Client {
	f.Helper()
	r := f.approles[role]
	v, err := vault.Open(f.Context(), vault.Options{Address: f.vault.Addr, Mount: f.mount, Auth: vault.Auth{
		Method: vault.AuthAppRole, MountPath: r.Mount, RoleID: r.RoleID, SecretIDFile: f.file("secret-id-of-"+role, r.SecretID),
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = v.Close() }) // the server may be gone
	f.eventually("logged in to Vault", func() bool { return v.Ready(f.Context()) == nil })
	return v
}

// env is what the mailbox's processes need beside the fleet's config.
func (m *mailbox) env() []string {
	m.f.Helper()
	return []string{
		"PATCHBAY_PROVIDERS_ENDPOINTS=" + fmt.Sprintf(`{"microsoft_graph_mail": %q}`, m.i.url),
		"PATCHBAY_EGRESS_ALLOW_LOOPBACK=" + portOf(m.f, m.i.url),
		"PATCHBAY_CACHE_KEY=" + cacheKeyPath,
	}
}

// consent plays the user in the browser and the control plane behind it. It
// returns the moment from which the consent was stored.
func (m *mailbox) consent() time.Time {
	m.f.Helper()
	ctx, cancel := context.WithTimeout(m.f.Context(), patience)
	defer cancel()
	verifier := oauth.NewVerifier()
	code := m.i.agree(m.f, oauth.AuthCodeURL(m.app, redirectURL, "a state", verifier))
	values, _, err := m.tokens.Exchange(ctx, m.app, code, verifier, redirectURL)
	if err != nil {
		m.f.Fatal(err)
	}
	old, err := m.secrets.ReadGrant(ctx, m.tenant, m.id)
	if err != nil && fault.CodeOf(err) != fault.NotFound {
		m.f.Fatal(err)
	}
	version, err := m.secrets.WriteGrant(ctx, m.tenant, m.id, values, old.Version)
	if err != nil {
		m.f.Fatal(err)
	}
	_, err = m.store.Change(ctx, connector.Change{Actor: "test", Tenants: []tenant.ID{m.tenant}}, func(ctx context.Context, tx connector.Tx) error {
		return tx.Tenant(m.tenant).PutGrant(ctx, m.id, version)
	})
	if err != nil {
		m.f.Fatal(err)
	}
	return time.Now()
}

// state is the connector's, as the control plane has it.
func (m *mailbox) state() connector.State {
	m.f.Helper()
	c, err := connector.Find(m.f.Context(), m.store.Tenant(m.tenant), m.id)
	if err != nil {
		m.f.Fatal(err)
	}
	return c.State
}

// minted is an answer with an access token.
type minted struct {
	answer

	access  string
	expires time.Time
}

func mintedOf(a answer) (m minted, err error) {
	m.answer = a
	m.access, _ = a.Config["access_token"].(string)
	var body struct {
		ExpiresAt *time.Time `json:"expires_at"`
	}
	if err := json.Unmarshal(a.body, &body); err != nil || body.ExpiresAt == nil || m.access == "" {
		return m, fmt.Errorf("no access token with its end in an answer of %d bytes: %w", len(a.body), err)
	}
	m.expires = *body.ExpiresAt
	return m, nil
}

// follower asks one sidecar for its token all the time, and checks every answer.
type follower struct {
	m *mailbox
	s *process
	// without is set while no answer (503) is right once the last token has ended.
	without atomic.Bool
	leaving atomic.Bool
	done    chan struct{}

	mu      sync.Mutex
	last    minted
	etags   map[string]string // by token
	sources map[string]int
	refused []answer
}

func (m *mailbox) follow(s *process) *follower {
	w := &follower{m: m, s: s, done: make(chan struct{}), etags: map[string]string{}, sources: map[string]int{}}
	// A test that failed goes without end: no reader may outlive it.
	m.f.Cleanup(w.end)
	go func() {
		defer close(w.done)
		for ; !w.leaving.Load(); time.Sleep(5 * time.Millisecond) { // the other tests need the processor too
			if err := w.ask(); err != nil && !w.leaving.Load() {
				m.f.Error(err)
				return
			}
		}
	}()
	return w
}

// end ends the reading, before its process ends.
func (w *follower) end() { w.leaving.Store(true); <-w.done }

// ask asks once.
func (w *follower) ask() error {
	without, asked := w.without.Load(), time.Now()
	a, err := w.s.try("/v1/resolve/email", w.m.token)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if a.code != http.StatusOK {
		w.refused = append(w.refused, a)
		end, _ := w.m.i.end(w.last.access)
		switch {
		case !without || a.code != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "":
			return fmt.Errorf("%d %v %s", a.code, a.header, a.body)
		case time.Until(end) > life/25: // a fiftieth is kept back for the clocks of a fleet
			return fmt.Errorf("no answer %s before the token's end: %s", time.Until(end), a.body)
		}
		return nil
	}
	now, err := mintedOf(a)
	if err != nil {
		return err
	}
	end, ours := w.m.i.end(now.access)
	if !ours || !asked.Before(end) || now.expires.After(end) {
		return fmt.Errorf("a token that ended %s ago is served, as one that ends in %s (the issuer knows it: %t)", asked.Sub(end), time.Until(now.expires), ours)
	}
	etag := a.header.Get("ETag")
	if old, ok := w.etags[now.access]; ok && old != etag {
		return fmt.Errorf("one token, two ETags: %s, %s", old, etag)
	}
	if now.access != w.last.access {
		for access, old := range w.etags {
			if access == now.access {
				return fmt.Errorf("a token is served after its successor")
			}
			if old == etag {
				return fmt.Errorf("two tokens, one ETag: %s", etag)
			}
		}
	}
	if w.last.access != "" {
		w.sources[a.header.Get("X-Patchbay-Source")]++
	}
	w.last, w.etags[now.access] = now, etag
	return nil
}

// holds is the last answer.
func (w *follower) holds() minted {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

// refreshes waits for n more refreshes, until all followers serve the last one's
// token, and checks that none came before its time.
func (m *mailbox) refreshes(n int64, followers ...*follower) {
	m.f.Helper()
	begun := int(m.i.refreshed.Load())
	m.f.eventually(fmt.Sprintf("%d more refreshes", n), func() bool { return m.i.refreshed.Load() >= int64(begun)+n })
	m.f.eventually("everybody serves the newest token", func() bool {
		for _, w := range followers {
			if w.holds().access != m.i.latest() {
				return false
			}
		}
		return true
	})
	m.spaced(begun)
}

// spaced checks that no refresh from the given one on came before the token of
// the one before was due: exactly one a lifetime.
func (m *mailbox) spaced(from int) {
	m.f.Helper()
	moments := m.i.moments()
	for n := max(from, 1); n < len(moments); n++ {
		// Due is 70 % of a life at the earliest, less what is kept back for clocks,
		// and counted from before the request.
		if gap := moments[n].Sub(moments[n-1]); gap < life*2/3 {
			m.f.Errorf("refresh %d came %s after the one before", n+1, gap)
		}
	}
	if n := m.i.refused.Load(); n != 0 {
		m.f.Errorf("the issuer refused %d requests", n)
	}
}

// counted is the sum of a metric.
func counted(name string, ps ...*process) (sum float64) {
	for _, p := range ps {
		sum += p.metric(name)
	}
	return sum
}

// Two sidecars and a control plane keep one account's tokens fresh, at one
// refresh of the fleet per lifetime: undisturbed, without Redis, after an outage
// of Postgres, and once one of them was killed. Nothing of it comes to rest in
// clear.
func TestTokensOfAFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{private: true, level: "debug", cache: "{ttl: 3s, negative_ttl: 1s}", postgres: []string{
		"logging_collector=on", "log_directory=log", "log_statement=all", "log_parameter_max_length=-1", "log_parameter_max_length_on_error=-1",
	}})
	key := f.newCacheKey()
	i := newIssuer(t, life)
	m := f.newMailbox(i)
	commands := monitor(t, f)
	admin := f.control(m.env()...)
	a, b := f.serve(m.env()...), f.serve(m.env()...)
	for _, s := range []*process{a, b} {
		if got := s.get("/v1/resolve/email", m.token); got.code != http.StatusFailedDependency || got.Code != "needs_reauthorization" {
			t.Errorf("before the consent: %d %s", got.code, got.body)
		}
		if got := s.get("/v1/resolve/storage", m.token); got.code != http.StatusOK {
			t.Errorf("beside it: %d %s", got.code, got.body)
		}
	}
	consented := m.consent()
	for _, s := range []*process{a, b} {
		f.eventually("a token", func() bool {
			asked := time.Now()
			got := s.get("/v1/resolve/email", m.token)
			if got.code != http.StatusOK && asked.Sub(consented) > promise+got.age(t) {
				t.Fatalf("%s after the consent: %d %s", asked.Sub(consented), got.code, got.body)
			}
			return got.code == http.StatusOK
		})
	}
	wa, wb := m.follow(a), m.follow(b)
	balanced := func() {
		t.Helper()
		f.eventually("the processes count what the issuer does", func() bool {
			return counted("patchbay_oauth_refreshes_total", a, b, admin) == float64(i.refreshed.Load())
		})
		if n := counted("patchbay_oauth_lost_grants_total", a, b, admin) + counted("patchbay_oauth_unstored_grants", a, b, admin); n != 0 {
			t.Errorf("%v grants were lost", n)
		}
	}

	m.refreshes(3, wa, wb)
	balanced()
	for _, w := range []*follower{wa, wb} {
		w.mu.Lock()
		// Now and then a busy machine has to validate an answer anew.
		if n := w.sources["memory"]; n == 0 || n < 20*(w.sources["redis"]+w.sources["database"]) {
			t.Errorf("answers came from %v", w.sources)
		}
		w.mu.Unlock()
	}
	redis := redisDump(t, f)
	if !strings.Contains(redis, "pb:{initech}:t:") {
		t.Error("the Redis dump holds no token: the search proves nothing")
	}

	shared := counted("patchbay_oauth_grant_hits_total", a, b)
	f.redis.Kill()
	m.refreshes(2, wa, wb)
	if counted("patchbay_oauth_grant_hits_total", a, b) == shared {
		t.Error("nobody found the other's token in Vault: Redis was not missed")
	}
	balanced()
	asked := commands()
	f.redis.Start(t)
	a.connected()
	b.connected()
	m.refreshes(1, wa, wb)

	// This issuer takes no refresh token twice: without the lease nobody refreshes.
	refreshed := i.refreshed.Load()
	wa.without.Store(true)
	wb.without.Store(true)
	f.pg.Kill()
	for _, w := range []*follower{wa, wb} {
		held := w.holds().access
		f.eventually("a stale answer", func() bool {
			now := w.holds()
			if now.access != held {
				t.Fatal("another token without a lease")
			}
			return now.Stale && now.age(t) > 0 && now.header.Get("X-Patchbay-Stale") == "true"
		})
		f.eventually("no answer", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return len(w.refused) > 0 })
	}
	if n := i.refreshed.Load(); n != refreshed {
		t.Errorf("%d refreshes without a lease", n-refreshed)
	}
	f.pg.Start(t)
	for _, w := range []*follower{wa, wb} {
		f.eventually("a fresh answer again", func() bool {
			now := w.holds()
			end, _ := i.end(now.access)
			return time.Now().Before(end) && !now.Stale
		})
		w.without.Store(false)
	}
	a.connected()
	b.connected()
	m.refreshes(1, wa, wb)
	balanced()

	metrics := a.metrics()
	wa.end()
	a.kill()
	m.refreshes(2, wb)
	wb.end()

	redis += redisDump(t, f)
	dump := postgresDump(t, f)
	for _, part := range []string{"acme-prod", "statement: ", "execute ", "oauth_grants"} {
		if !strings.Contains(dump, part) {
			t.Errorf("the Postgres dump holds no %q: the search proves nothing", part)
		}
	}
	metrics += b.metrics() + admin.metrics()
	b.stop()
	admin.stop()
	for _, w := range []*follower{wa, wb} {
		for _, r := range w.refused {
			m.said = append(m.said, string(r.body), fmt.Sprint(r.header))
		}
	}
	raw, _ := base64.StdEncoding.DecodeString(key)
	canaries := map[string]string{"the client's secret": clientSecret, "the cache key": key, "the cache key's bytes": string(raw)}
	for n, token := range i.handedOut() {
		canaries[fmt.Sprintf("token %d", n)] = token
	}
	for place, text := range map[string]string{
		"Redis": redis, "a command to Redis": asked, "Postgres": dump, "the metrics": metrics, "the killed sidecar's log": a.output(),
		"the other sidecar's log": b.output(), "the control plane's log": admin.output(), "what people are told": strings.Join(m.said, "\n"),
	} {
		for name, canary := range canaries {
			for form, needle := range forms(canary) {
				if at := strings.Index(text, needle); at >= 0 {
					t.Errorf("%s holds %s (%s): ...%.200q", place, name, form, text[max(0, at-100):at])
				}
			}
		}
		for what, pattern := range map[string]string{"a JWT": `eyJ[\w-]{10,}\.[\w-]+`, "a Vault token": `hv[bsr]\.[\w-]{10,}`} {
			if regexp.MustCompile(pattern).MatchString(text) {
				t.Errorf("%s holds %s", place, what)
			}
		}
	}
	if !strings.Contains(b.output(), `"level":"DEBUG"`) || len(canaries) < 10 {
		t.Errorf("%d canaries, and a log of %d bytes: the search proves nothing", len(canaries), len(b.output()))
	}
}

// An issuer that refuses the grant is a clear answer, of both sidecars within a
// lifetime, and the connector's state follows. A new consent heals all of it.
func TestConsentEnds(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.newCacheKey()
	i := newIssuer(t, life)
	m := f.newMailbox(i)
	admin := f.control(m.env()...)
	sidecars := []*process{f.serve(m.env()...), f.serve(m.env()...)}
	m.consent()
	for _, s := range sidecars {
		f.eventually("a token", func() bool { return s.get("/v1/resolve/email", m.token).code == http.StatusOK })
	}
	for round := range 2 {
		var asked atomic.Int64
		refuse := func(w http.ResponseWriter, _ *http.Request) bool {
			asked.Add(1)
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"error": "invalid_grant", "error_description": "CANARY of the issuer"}`)
			return true
		}
		i.before.Store(&refuse)
		// What was minted just before lives on until its end, and the answer is not due
		// at once.
		f.eventually("both need a new consent", func() bool {
			for _, s := range sidecars {
				asked := time.Now()
				got := s.get("/v1/resolve/email", m.token)
				switch {
				case got.code == http.StatusOK:
					now, err := mintedOf(got)
					if end, ours := i.end(now.access); err != nil || !ours || now.expires.After(end) || !asked.Before(end) {
						t.Fatalf("a token that ended %s ago (the issuer knows it: %t): %v", asked.Sub(end), ours, err)
					}
					return false
				case got.code != http.StatusFailedDependency || got.Code != "needs_reauthorization" || strings.Contains(string(got.body), "CANARY"):
					t.Fatalf("%d %s", got.code, got.body)
				}
			}
			return true
		})
		f.eventually("the connector's state follows", func() bool { return m.state() == connector.StateNeedsReauthorization })
		// Whoever comes asks nobody again.
		before := asked.Load()
		for range 20 {
			for _, s := range sidecars {
				if got := s.get("/v1/resolve/email", m.token); got.code != http.StatusFailedDependency {
					t.Fatalf("%d %s", got.code, got.body)
				}
			}
		}
		if n := asked.Load(); n != before || n > int64(len(sidecars)) {
			t.Errorf("the issuer was asked %d times, %d of them after its answer", n, n-before)
		}

		i.before.Store(nil)
		consented := m.consent()
		for _, s := range sidecars {
			f.eventually("the new consent counts", func() bool {
				asked := time.Now()
				got := s.get("/v1/resolve/email", m.token)
				if got.code != http.StatusOK && asked.Sub(consented) > promise+got.age(t) {
					t.Fatalf("round %d, %s after the consent: %d %s", round, asked.Sub(consented), got.code, got.body)
				}
				return got.code == http.StatusOK
			})
		}
		if s := m.state(); s != connector.StateUntested {
			t.Errorf("after the consent the connector is %s", s)
		}
	}
	if n := counted("patchbay_grants_aligned_total", admin); n != 2 {
		t.Errorf("the control plane aligned %v states", n)
	}
	for _, p := range append(sidecars, admin) {
		if strings.Contains(p.output(), "CANARY") {
			t.Errorf("%s logs what the issuer said", p.args[0])
		}
	}
}

// A sidecar is killed while the issuer has its request. Who comes after it waits
// for its lease, and the grant is as good as it was.
func TestKilledWhileItRefreshes(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.newCacheKey()
	i := newIssuer(t, life)
	m := f.newMailbox(i)
	f.control(m.env()...)
	s, next := f.serve(m.env()...), f.serve(m.env()...)
	arrived, once := make(chan struct{}), sync.Once{}
	hold := func(_ http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the client has gone
		once.Do(func() { close(arrived) })
		<-r.Context().Done()
		return true
	}
	m.consent()
	i.before.Store(&hold)
	f.eventually("a refresh is under way", func() bool {
		s.get("/v1/resolve/email", m.token)
		select {
		case <-arrived:
			return true
		default:
			return false
		}
	})
	s.kill()
	i.before.Store(nil)
	// A lease lasts two and a half of an issuer's timeouts of 10 s.
	f.within(time.Minute, "a token", func() bool {
		got := next.get("/v1/resolve/email", m.token)
		if got.code != http.StatusOK && got.code != http.StatusServiceUnavailable && got.code != http.StatusGatewayTimeout {
			t.Fatalf("%d %s", got.code, got.body)
		}
		return got.code == http.StatusOK && i.refreshed.Load() > 0
	})
	if i.refreshed.Load() != 1 || i.refused.Load() != 0 {
		t.Errorf("%d refreshes, %d refused", i.refreshed.Load(), i.refused.Load())
	}
}

// Where a sidecar has no standing right, no token is minted: that is the
// category's outage, and nobody else's.
func TestCallersMintNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.newCacheKey()
	i := newIssuer(t, time.Hour)
	m := f.newMailbox(i)
	f.control(m.env()...)
	m.consent()
	s := f.start(m.env(), "serve", "--config", f.callerConfig(t, nil))
	s.ready()
	for range 2 {
		if got := s.get("/v1/resolve/email", m.token); got.code != http.StatusServiceUnavailable || got.Code != "unavailable" || got.header.Get("Retry-After") == "" {
			t.Errorf("%d %v %s", got.code, got.header, got.body)
		}
		if got := s.get("/v1/resolve/storage", m.token); got.code != http.StatusOK || got.Config["secret_access_key"] != "secret" {
			t.Errorf("beside it: %d %s", got.code, got.body)
		}
		var all struct {
			Backends map[string]json.RawMessage
			Errors   map[string]problem
		}
		got := s.get("/v1/resolve", m.token)
		if err := json.Unmarshal(got.body, &all); err != nil || got.code != http.StatusOK || len(all.Backends) != 1 || all.Backends["storage"] == nil || all.Errors["email"].Code != "unavailable" {
			t.Errorf("%d %s: %v", got.code, got.body, err)
		}
	}
	if n := i.refreshed.Load(); n != 0 {
		t.Errorf("%d refreshes", n)
	}
	// One that has the right answers, from the same records.
	if got := f.serve(m.env()...).get("/v1/resolve/email", m.token); got.code != http.StatusOK {
		t.Errorf("an ordinary sidecar: %d %s", got.code, got.body)
	}
}

// The rights of a sidecar in Vault: it reads, and writes grants. It can plant no
// secret, remove none, and see no other name than those that it was told.
func TestSidecarWritesGrantsOnly(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	key := f.newCacheKey()
	m := f.newMailbox(newIssuer(t, time.Hour))
	m.consent()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sidecar := f.openVault("sidecar")
	c, err := connector.Find(ctx, m.store.Tenant(m.tenant), m.id)
	if err != nil {
		t.Fatal(err)
	}
	ref := connector.SecretRef{Tenant: m.tenant, Connector: m.id, Pin: c.Pin}
	bundle, err := sidecar.Read(ctx, ref)
	if err != nil || bundle.Values["client_secret"].Reveal() != clientSecret {
		t.Errorf("reading a bundle: %v", err)
	}
	if _, got, err := sidecar.CacheKey(ctx, cacheKeyPath); err != nil || base64.StdEncoding.EncodeToString([]byte(got.Reveal())) != key {
		t.Errorf("reading the cache key: %v", err)
	}
	grant, err := sidecar.ReadGrant(ctx, m.tenant, m.id)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := sidecar.WriteGrant(ctx, m.tenant, m.id, grant.Values, grant.Version); err != nil || v != grant.Version+1 {
		t.Errorf("writing a grant: %d %v", v, err)
	}
	fresh := ref
	fresh.Pin = vault.NewPin()
	for what, err := range map[string]error{
		"writing a bundle": sidecar.Write(ctx, fresh, bundle), "deleting a bundle": sidecar.Delete(ctx, ref), "destroying a bundle": sidecar.Destroy(ctx, ref),
		"listing tenants":    func() error { _, err := sidecar.Tenants(ctx); return err }(),
		"listing connectors": func() error { _, err := sidecar.Connectors(ctx, m.tenant); return err }(),
	} {
		if fault.CodeOf(err) != fault.Unavailable {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := m.secrets.Read(ctx, ref); err != nil {
		t.Errorf("the bundle afterwards: %v", err)
	}
	var none *testenv.VaultError
	if err := f.vault.Call(f.vault.RootToken, "GET", f.mount+"/data/patchbay/initech/"+m.id.String()+"/"+fresh.Pin.String(), nil, nil); !errors.As(err, &none) || none.Status != http.StatusNotFound {
		t.Errorf("the bundle that was refused: %v", err)
	}

	role := f.approles["sidecar"]
	var login struct {
		Auth struct {
			Token string `json:"client_token"`
		}
	}
	if err := f.vault.Call("", "POST", "auth/"+role.Mount+"/login", map[string]any{"role_id": role.RoleID, "secret_id": role.SecretID}, &login); err != nil {
		t.Fatal(err)
	}
	base := "/patchbay/initech/" + m.id.String() + "/"
	want := map[string][]string{
		f.mount + "/data" + base + c.Pin.String():     {"read"},
		f.mount + "/data" + base + fresh.Pin.String(): {"read"},
		f.mount + "/data" + base + "grant":            {"create", "read", "update"},
		f.mount + "/data" + base + "grant/x":          {"read"},
		f.mount + "/data/patchbay/initech/grant":      {"read"},
		f.mount + "/data/" + cacheKeyPath:             {"read"},
		f.mount + "/metadata" + base + "grant":        {"deny"},
		f.mount + "/metadata/patchbay":                {"deny"},
		f.mount + "/delete" + base + "grant":          {"deny"},
		f.mount + "/destroy" + base + "grant":         {"deny"},
		f.mount + "/data/other":                       {"deny"},
		"sys/policies/acl/" + f.reads:                 {"deny"},
	}
	for path, rights := range want {
		var answer map[string]any
		if err := f.vault.Call(login.Auth.Token, "POST", "sys/capabilities-self", map[string]any{"paths": []string{path}}, &answer); err != nil {
			t.Fatal(err)
		}
		var got []string
		held, _ := answer["capabilities"].([]any)
		for _, right := range held {
			got = append(got, fmt.Sprint(right))
		}
		slices.Sort(got)
		if !slices.Equal(got, rights) {
			t.Errorf("%s: %v instead of %v", path, got, rights)
		}
	}
}
