package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/client/admin"
	"github.com/patchbay-dev/patchbay/httpapi/adminapi/apitest"
	"github.com/patchbay-dev/patchbay/internal/housekeeping"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

var document struct {
	sync.Once
	text string
}

// judged is a client whose every answer is held against the OpenAPI document.
func (f *fleet) judged() *http.Client {
	f.Helper()
	document.Do(func() { document.text = f.run(nil, "openapi").ok(f).out })
	return &http.Client{Timeout: patience, Transport: &apitest.Transport{T: f, Document: apitest.Parse(f, []byte(document.text)), Base: client.Transport}}
}

// client of a control plane, as an admin of all of a tenant.
func (p *process) adminOf(tenant string) *admin.Client {
	p.f.Helper()
	return &admin.Client{BaseURL: "http://" + p.admin, HTTP: p.f.judged(), Token: admin.StaticToken(p.f.kit.Token(tenanttest.Claims{
		Tenant: tenant, Organizations: []string{"*"}, Subject: "amy", TTL: time.Hour,
		Roles: []string{"connectors.read", "connectors.write", "secrets.read"},
	}))}
}

func (p *process) operator() *admin.Client {
	p.f.Helper()
	return &admin.Client{BaseURL: "http://" + p.admin, HTTP: p.f.judged(), Token: admin.StaticToken(p.f.kit.Token(tenanttest.Claims{
		Tenant: "platform", Subject: "op", TTL: time.Hour, Roles: []string{"platform.admin"},
	}))}
}

// newTenant makes a tenant with organization "hq" through the API.
func (p *process) newTenant(id string) *admin.Client {
	p.f.Helper()
	ctx := p.f.Context()
	if _, _, err := p.operator().CreateTenant(ctx, id, ""); err != nil {
		p.f.Fatal(err)
	}
	c := p.adminOf(id)
	if _, _, err := c.CreateOrganization(ctx, "hq", ""); err != nil {
		p.f.Fatal(err)
	}
	return c
}

// bucket makes an S3 default of "hq" whose bucket and secret carry the number.
func bucket(f *fleet, c *admin.Client, n int) (admin.Connector, admin.Meta) {
	f.Helper()
	hq := "hq"
	made, meta, err := c.CreateConnector(f.Context(), admin.Draft{
		Name: "S3", Kind: "s3", OrganizationID: &hq, IsDefault: true, Force: true, Reason: "there is no such bucket",
		Params:  map[string]any{"bucket": fmt.Sprintf("bucket-%d", n), "region": "us-east-1"},
		Secrets: map[string]string{"access_key_id": "AK", "secret_access_key": fmt.Sprintf("secret-%d", n)},
	})
	if err != nil {
		f.Fatal(err)
	}
	return made, meta
}

func numbered(n int) admin.Edit {
	value := fmt.Sprintf("secret-%d", n)
	return admin.Edit{Params: map[string]any{"bucket": fmt.Sprintf("bucket-%d", n)}, Secrets: map[string]*string{"secret_access_key": &value}, Force: true, Reason: "r"}
}

// A change through the API is seen by a running sidecar within a second, with its
// secret, and at once by who names its revision.
func TestAChangeIsSeen(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	control := f.control()
	s := f.serve()
	c := control.newTenant("visible")
	made, meta := bucket(f, c, 0)
	token := f.token("visible", "hq")
	number := func(a answer) int {
		n, err := strconv.Atoi(strings.TrimPrefix(fmt.Sprint(a.Config["bucket"]), "bucket-"))
		if err != nil || a.Config["secret_access_key"] != fmt.Sprintf("secret-%d", n) {
			t.Fatalf("%s: %v", a.body, err)
		}
		return n
	}
	if a := s.get("/v1/resolve/storage", token, "X-Patchbay-Min-Revision: "+strconv.FormatInt(meta.Revision, 10)); a.code != 200 || number(a) != 0 {
		t.Fatalf("%d %s", a.code, a.body)
	}
	const changes = 100
	var took []time.Duration
	for n := 1; n <= changes; n++ {
		_, meta, err := c.PatchConnector(t.Context(), made.ID, numbered(n), admin.IfMatch("*"))
		if err != nil {
			t.Fatal(err)
		}
		committed := time.Now()
		if n%2 == 0 {
			if a := s.get("/v1/resolve/storage", token, "X-Patchbay-Min-Revision: "+strconv.FormatInt(meta.Revision, 10)); a.code != 200 || number(a) != n {
				t.Fatalf("after change %d, with its revision: %d %s", n, a.code, a.body)
			}
			continue
		}
		f.eventually(fmt.Sprintf("change %d", n), func() bool {
			asked := time.Now()
			a := s.get("/v1/resolve/storage", token)
			seen := number(a) == n
			if late := asked.Sub(committed); !seen && late > promise+a.age(t) {
				t.Fatalf("change %d is not seen after %s, as %s old: %s", n, late, a.age(t), a.body)
			}
			return seen
		})
		took = append(took, time.Since(committed))
	}
	slices.Sort(took)
	t.Logf("seen after %s (median), %s at most", took[len(took)/2], took[len(took)-1])
	// So is a suspension, and its end.
	operator := control.operator()
	for _, row := range []struct {
		name string
		do   func() error
		want int
	}{
		{"suspended", func() error { _, _, err := operator.SuspendTenant(t.Context(), "visible"); return err }, http.StatusForbidden},
		{"resumed", func() error { _, _, err := operator.ResumeTenant(t.Context(), "visible"); return err }, http.StatusOK},
		{"deleted", func() error { _, _, err := operator.DeleteTenant(t.Context(), "visible"); return err }, http.StatusForbidden},
	} {
		if err := row.do(); err != nil {
			t.Fatal(err)
		}
		done := time.Now()
		f.eventually(row.name, func() bool { return s.get("/v1/resolve/storage", token).code == row.want })
		t.Logf("%s is seen after %s", row.name, time.Since(done))
	}
}

// Rolled back, a connector has the secret of then, as a sidecar resolves it.
func TestRollBackBringsTheSecretBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	control := f.control()
	s := f.serve()
	c := control.newTenant("back")
	made, _ := bucket(f, c, 1)
	token := f.token("back", "hq")
	secret := func(meta admin.Meta) any {
		return s.get("/v1/resolve/storage", token, "X-Patchbay-Min-Revision: "+strconv.FormatInt(meta.Revision, 10)).Config["secret_access_key"]
	}
	_, meta, err := c.PatchConnector(t.Context(), made.ID, numbered(2), admin.IfMatch(made.ETag()))
	if err != nil || secret(meta) != "secret-2" {
		t.Fatal(err, secret(meta))
	}
	back, meta, err := c.RestoreRevision(t.Context(), made.ID, 1, admin.IfMatch("*"))
	if err != nil {
		t.Fatal(err)
	}
	if got := secret(meta); got != "secret-1" || back.Secrets["secret_access_key"].Version != 3 {
		t.Errorf("%v, %+v", got, back.Secrets)
	}
}

// A consent from beginning to end by HTTP alone, with a real issuer, and then a fresh
// token out of a sidecar.
func TestConsentThroughTheAPI(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	i := newIssuer(t, time.Hour)
	f.newCacheKey()
	m := f.newMailbox(i)
	env := append(m.env(), "PATCHBAY_ADMIN_PUBLIC_URL="+publicURL)
	control := f.control(env...)
	s := f.serve(m.env()...)
	c := control.adminOf("initech")
	if a := s.get("/v1/resolve/email", m.token); a.code != http.StatusFailedDependency {
		t.Fatalf("before the consent: %d %s", a.code, a.body)
	}
	begun, err := c.StartConsent(t.Context(), m.id.String())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(begun.RedirectURI, publicURL+"/") {
		t.Fatalf("%+v", begun)
	}
	back := i.comeBack(t, begun.AuthorizationURL)
	if !strings.HasPrefix(back.String(), begun.RedirectURI+"?") {
		t.Fatalf("came back to %s", back)
	}
	// The browser follows the redirect, which leads to the control plane.
	res, err := client.Get("http://" + control.admin + back.RequestURI())
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	_ = res.Body.Close() // read
	var handed struct{ Handle string }
	if err := json.Unmarshal(body, &handed); err != nil || handed.Handle == "" {
		t.Fatalf("%d %s", res.StatusCode, body)
	}
	eve := &admin.Client{BaseURL: c.BaseURL, HTTP: client, Token: admin.StaticToken(f.kit.Token(tenanttest.Claims{
		Tenant: "initech", Organizations: []string{"*"}, Subject: "eve", TTL: time.Hour, Roles: []string{"connectors.write"}}))}
	if _, _, err := eve.CompleteConsent(t.Context(), m.id.String(), handed.Handle); !admin.IsCode(err, "invalid_argument") {
		t.Errorf("another user completes it: %v", err)
	}
	done, meta, err := c.CompleteConsent(t.Context(), m.id.String(), handed.Handle)
	if err != nil {
		t.Fatal(err)
	}
	if done.Connector.State == "needs_reauthorization" || done.Test == nil {
		t.Errorf("%+v", done)
	}
	a := s.get("/v1/resolve/email", m.token, "X-Patchbay-Min-Revision: "+strconv.FormatInt(meta.Revision, 10))
	got, err := mintedOf(a)
	if err != nil {
		t.Fatalf("%d %s: %v", a.code, a.body, err)
	}
	if !slices.Contains(i.handedOut(), got.access) {
		t.Error("the token is not one of the issuer's")
	}
	if _, _, err := c.CompleteConsent(t.Context(), m.id.String(), handed.Handle); !admin.IsCode(err, "invalid_argument") {
		t.Errorf("the handle again: %v", err)
	}
	for _, p := range []*process{control, s} {
		for name, secret := range map[string]string{"code": back.Query().Get("code"), "handle": handed.Handle, "state": back.Query().Get("state"), "token": got.access} {
			if strings.Contains(p.output(), secret) {
				t.Errorf("%s logs the %s", p.args[0], name)
			}
		}
	}
}

// Killed at any moment, a control plane has lost nothing that it acknowledged and has
// done nothing by half.
func TestKilledControlPlane(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	control := f.control()
	s := f.serve()
	c := control.newTenant("killed")
	made, _ := bucket(f, c, 0)

	// Writers: one changes params and secret together, others make connectors under a
	// key until they are told that it exists.
	var acknowledged atomic.Int64 // the highest number of an acknowledged change
	var ids sync.Map              // name -> id of what was acknowledged
	stop := make(chan struct{})
	var wg sync.WaitGroup
	going := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	wg.Go(func() {
		for n := 1; going(); n++ {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			if _, _, err := c.PatchConnector(ctx, made.ID, numbered(n), admin.IfMatch("*")); err == nil {
				acknowledged.Store(int64(n))
			}
			cancel()
		}
	})
	hq := "hq"
	for writer := range 3 {
		wg.Go(func() {
			for n := 0; going(); n++ {
				name := fmt.Sprintf("made-%d-%d", writer, n)
				for going() {
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					got, _, err := c.CreateConnector(ctx, admin.Draft{Name: name, Kind: "s3", OrganizationID: &hq,
						Params:  map[string]any{"bucket": "made"},
						Secrets: map[string]string{"access_key_id": "AK", "secret_access_key": "secret of " + name}}, admin.Once("key-of-"+name+"-0123456789"))
					cancel()
					if err == nil {
						ids.Store(name, got.ID)
						break
					}
					if admin.IsCode(err, "conflict") { // its claim outlives a killed process for a while
						break
					}
				}
			}
		})
	}
	const kills = 30
	for n := range kills {
		time.Sleep(time.Duration(20+(n*37)%180) * time.Millisecond) // a moment like any other
		control.kill()
		control.begin()
		control.ready()
	}
	close(stop)
	wg.Wait()

	// What was acknowledged is there, whole, and once.
	got, _, err := c.GetConnector(t.Context(), made.ID)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimPrefix(fmt.Sprint(got.Params["bucket"]), "bucket-"), 10, 64)
	if err != nil || n < acknowledged.Load() {
		t.Errorf("change %d was acknowledged, %d is stored (%v)", acknowledged.Load(), n, err)
	}
	cfg, err := c.GetConfig(t.Context(), made.ID, true)
	if err != nil || cfg.Secrets["secret_access_key"] != fmt.Sprintf("secret-%d", n) {
		t.Errorf("config and secret tore: %v, %v", cfg, err)
	}
	seen := map[string]int{}
	stored := map[string]string{}
	for item, err := range c.Connectors(t.Context(), admin.Filter{Limit: 200}) {
		if err != nil {
			t.Fatal(err)
		}
		seen[item.Name]++
		stored[item.Name] = item.ID
	}
	lost, twice, count := 0, 0, 0
	ids.Range(func(name, id any) bool {
		count++
		if stored[name.(string)] != id.(string) {
			lost++
		}
		return true
	})
	for name, times := range seen {
		if times != 1 && name != "S3" {
			twice++
		}
	}
	t.Logf("%d kills, change %d acknowledged, %d connectors acknowledged, %d stored", kills, acknowledged.Load(), count, len(stored))
	if lost > 0 || twice > 0 || count == 0 || acknowledged.Load() == 0 {
		t.Errorf("%d lost, %d made twice", lost, twice)
	}
	for name, id := range stored {
		if name == "S3" {
			continue
		}
		if cfg, err := c.GetConfig(t.Context(), id, true); err != nil || cfg.Secrets["secret_access_key"] != "secret of "+name {
			t.Errorf("%s is there by half: %v, %v", name, cfg, err)
		}
	}
	// Its revisions lead from one to the next, and the sidecar has the last.
	last := int64(0)
	for cursor := ""; ; {
		page, err := c.ListRevisions(t.Context(), made.ID, cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Items {
			if last != 0 && r.Version != last-1 {
				t.Fatalf("version %d before %d", r.Version, last)
			}
			last = r.Version
		}
		if page.NextCursor == nil {
			break
		}
		cursor = *page.NextCursor
	}
	if last != 1 {
		t.Errorf("history begins at version %d", last)
	}
	token := f.token("killed", "hq")
	f.eventually("the sidecar has the last change", func() bool {
		return s.get("/v1/resolve/storage", token).Config["bucket"] == fmt.Sprintf("bucket-%d", n)
	})
	store, secrets := f.openStore("admin"), f.openVault("admin")
	f.eventually("the outbox is drained", func() bool {
		unsent, err := store.Unsent(t.Context(), 0)
		return err == nil && !unsent
	})
	// What a kill left in Vault and nowhere else is swept once it is old.
	id, err := tenant.ParseID("killed")
	if err != nil {
		t.Fatal(err)
	}
	alive := func() (pinned, orphans int) {
		list, err := secrets.Connectors(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range list {
			refs, err := secrets.Refs(t.Context(), id, of)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range refs {
				if is, err := store.Tenant(id).Pinned(t.Context(), of, r.Ref.Pin); err != nil {
					t.Fatal(err)
				} else if is {
					pinned++
				} else if r.DeletedAt.IsZero() {
					orphans++
				}
			}
		}
		return pinned, orphans
	}
	pinned, orphans := alive()
	sweeper := housekeeping.New(housekeeping.Options{Store: store, Secrets: secrets, Now: func() time.Time { return time.Now().Add(2 * time.Hour) }})
	if err := sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	still, left := alive()
	t.Logf("%d bundles are pinned, %d were orphans", pinned, orphans)
	if still != pinned || left != 0 {
		t.Errorf("%d of %d pinned bundles and %d orphans after the sweep", still, pinned, left)
	}
}

// Two admins change one slot at once, a thousand times, and a sidecar that is asked
// all along sees every connector's changes in their order, and revisions only grow.
func TestTwoAdminsAndASidecar(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	control := f.control()
	s := f.serve()
	c := control.newTenant("busy")
	hq := "hq"
	var made []admin.Connector
	for n := range 2 {
		one, _, err := c.CreateConnector(t.Context(), admin.Draft{Name: fmt.Sprint(n), Kind: "webhook", OrganizationID: &hq, IsDefault: n == 0, Force: true, Reason: "r",
			Params: map[string]any{"url": "https://hooks.example/0"}})
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, one)
	}
	if _, _, err := c.ActivateConnector(t.Context(), made[1].ID, "r"); err != nil {
		t.Fatal(err)
	}
	const each = 250
	var edits, stale atomic.Int64
	var wg sync.WaitGroup
	for who := range 2 {
		wg.Go(func() { // edits, each from what was read
			for done := 0; done < each; {
				now, _, err := c.GetConnector(t.Context(), made[0].ID)
				if err != nil {
					t.Error(err)
					return
				}
				n, _ := strconv.Atoi(strings.TrimPrefix(fmt.Sprint(now.Params["url"]), "https://hooks.example/"))
				_, _, err = c.PatchConnector(t.Context(), now.ID, admin.Edit{Params: map[string]any{"url": fmt.Sprintf("https://hooks.example/%d", n+1)}}, admin.IfMatch(now.ETag()))
				switch {
				case err == nil:
					done++
					edits.Add(1)
				case admin.IsCode(err, "stale_version"):
					stale.Add(1)
				default:
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() { // switches
			for n := range each {
				if _, _, err := c.SetDefault(t.Context(), made[(n+who)%2].ID); err != nil && !admin.IsCode(err, "stale_version") {
					t.Error(err)
					return
				}
			}
		})
	}
	stop, watched := make(chan struct{}), make(chan int)
	go func() {
		token, asked := f.token("busy", "hq"), 0
		last, versions := int64(0), map[string]int64{}
		for {
			select {
			case <-stop:
				watched <- asked
				return
			default:
			}
			a := s.get("/v1/resolve/webhook", token)
			if a.code != http.StatusOK {
				t.Errorf("%d %s", a.code, a.body)
				continue
			}
			asked++
			if r := a.revision(t); r < last {
				t.Errorf("revision %d after %d", r, last)
			} else {
				last = r
			}
			if v := a.Connector.Version; v < versions[a.Connector.ID] {
				t.Errorf("version %d of %s after %d", v, a.Connector.ID, versions[a.Connector.ID])
			} else {
				versions[a.Connector.ID] = v
			}
		}
	}()
	wg.Wait()
	close(stop)
	asked := <-watched
	now, _, err := c.GetConnector(t.Context(), made[0].ID)
	if err != nil || now.Params["url"] != fmt.Sprintf("https://hooks.example/%d", 2*each) || edits.Load() != 2*each {
		t.Errorf("%v of %d edits are there: %v", now.Params["url"], edits.Load(), err)
	}
	yes, defaults := true, 0
	for _, err := range c.Connectors(t.Context(), admin.Filter{IsDefault: &yes}) {
		if err != nil {
			t.Fatal(err)
		}
		defaults++
	}
	if defaults != 1 {
		t.Errorf("%d defaults", defaults)
	}
	t.Logf("%d edits (%d were stale first) and %d switches; the sidecar was asked %d times", edits.Load(), stale.Load(), 2*each, asked)
}
