package connector_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant/tenanttest"
)

func TestResultsDecideTheState(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		before := w.revision()
		for i, row := range []struct {
			code providers.TestCode // "" passes
			want connector.State
		}{
			{providers.CodeVendorError, connector.StateUntested},
			{providers.CodeEgressDenied, connector.StateUntested},
			{"", connector.StateConnected},
			{providers.CodeTimeout, connector.StateConnected},
			{providers.CodeRateLimited, connector.StateConnected},
			{providers.CodeNoNetwork, connector.StateConnected},
			{providers.CodeAuthFailed, connector.StateError},
			{providers.CodeTimeout, connector.StateError},
			{"a_kinds_own_code", connector.StateError},
			{"", connector.StateConnected},
		} {
			w.lab.tests(nil)
			if row.code != "" {
				w.lab.finds(row.code)
			}
			r := w.tested(c.ID)
			got := w.get(c.ID)
			if got.State != row.want || r.State != row.want || r.OK != (row.code == "") || r.Stale {
				t.Errorf("%d: %q made it %s (%+v), want %s", i, row.code, got.State, r, row.want)
			}
			last, err := connector.ParseTest(got.LastTest)
			w.ok(err)
			if last == nil || last.Code() != row.code || last.Version != 1 || last.TestedAt.IsZero() || last.Level != 1 {
				t.Errorf("%d: last test %s", i, got.LastTest)
			}
		}
		if w.revision() != before || w.get(c.ID).Version != 1 {
			t.Error("tests moved a version or revision")
		}
		var keys map[string]any
		w.ok(json.Unmarshal(w.get(c.ID).LastTest, &keys))
		for _, k := range []string{"ok", "message", "level", "steps", "tested_at", "version"} {
			if _, there := keys[k]; !there || len(keys) != 6 {
				t.Errorf("last_test has %v", keys)
			}
		}
		if e := w.audited("connector.test", c.ID); len(e) != 10 || e[0].Actor != w.sc.Actor {
			t.Errorf("%d tests are audited", len(e))
		}
	})
}

func TestTestOptions(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		for _, o := range []connector.TestOptions{{Level: 4}, {Level: -1}} {
			_, err := w.svc.TestConnection(w.ctx(), w.sc, c.ID, o)
			w.violations(err, fmt.Sprint(o.Level), "/level range")
		}
		for _, to := range []string{"x", "a@b.example\r\nBcc: c@d.example", "A <a@b.example>", "a@b.example, c@d.example"} {
			_, err := w.svc.TestDraft(w.ctx(), w.sc, w.draft("x", hq), connector.ID{}, connector.TestOptions{Recipient: to})
			w.violations(err, to, "/recipient format")
		}
		var seen providers.TestOptions
		w.lab.tests(func(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
			seen = o
			return providers.NewTest(ctx, c, o).Report("Sent"), nil
		})
		r, err := w.svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{Level: 3, Recipient: "a@b.example"})
		w.ok(err)
		if seen.Level != 3 || seen.Recipient != "a@b.example" || r.Level != 3 || w.get(c.ID).State != connector.StateConnected {
			t.Errorf("%+v, %+v", seen, r)
		}
	})
}

// A kind that panics, that repeats a secret, or that can't run.
func TestBadKinds(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		w.lab.tests(func(context.Context, providers.Config, providers.TestOptions) (providers.TestReport, error) {
			panic(errBoom)
		})
		r := w.tested(c.ID)
		if r.OK || r.Code() != providers.CodeInternal || w.get(c.ID).State != connector.StateUntested || !strings.Contains(w.log.String(), "a kind panicked") {
			t.Errorf("%+v", r)
		}
		w.lab.tests(func(_ context.Context, c providers.Config, _ providers.TestOptions) (providers.TestReport, error) {
			s := hidden("first").Reveal()
			return providers.TestReport{Message: "refused: " + s, Steps: []providers.TestStep{{Name: s, Status: providers.StepFail, Code: providers.CodeAuthFailed, Hint: s,
				Fix: &providers.Fix{Label: s, Params: map[string]any{"note": s}}}}}, nil
		})
		if r := w.tested(c.ID); strings.Contains(fmt.Sprintf("%+v %+v", r, r.Steps[0].Fix), canary) || r.Code() != providers.CodeAuthFailed {
			t.Errorf("%+v", r)
		}
		for what, row := range map[string]struct {
			err  error
			want fault.Code
		}{"unclassified": {errBoom, fault.Internal}, "a fault": {fault.New(fault.Unavailable, "no").WithCause(errBoom), fault.Unavailable}} {
			w.lab.tests(func(context.Context, providers.Config, providers.TestOptions) (providers.TestReport, error) {
				return providers.TestReport{}, row.err
			})
			before := w.get(c.ID).LastTest
			_, err := w.svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{})
			if w.code(err, row.want, what); string(w.get(c.ID).LastTest) != string(before) {
				t.Errorf("%s: recorded", what)
			}
		}
		// It still can be tested: no slot was lost on the way.
		w.lab.tests(nil)
		if r := w.tested(c.ID); !r.OK {
			t.Errorf("%+v", r)
		}
	})
}

// hold makes tests wait until they are let go.
func (w *world) hold() (began <-chan struct{}, release func()) {
	in, out := make(chan struct{}, 100), make(chan struct{})
	w.lab.tests(func(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
		in <- struct{}{}
		<-out
		return providers.NewTest(ctx, c, o).Report("Connected"), nil
	})
	return in, sync.OnceFunc(func() { close(out) })
}

// Who asked for a test may go; its result is recorded.
func TestResultOutlivesItsCaller(t *testing.T) {
	both(t, func(w *world) {
		c := w.create("a", hq)
		began, release := w.hold()
		defer release()
		ctx, cancel := context.WithCancel(w.ctx())
		done := make(chan error, 1)
		go func() { _, err := w.svc.TestConnection(ctx, w.sc, c.ID, connector.TestOptions{}); done <- err }()
		<-began
		_, err := w.svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{})
		if w.code(err, fault.RateLimited, "one under test"); fault.RetryAfter(err) <= 0 {
			t.Error("it doesn't say when to come back")
		}
		cancel()
		w.code(<-done, fault.DeadlineExceeded, "a caller who left")
		release()
		w.until("the result is recorded", func() bool { return w.get(c.ID).State == connector.StateConnected })
		w.until("it is audited", func() bool { return len(w.audited("connector.test", c.ID)) == 1 })
	})
}

func TestStaleResult(t *testing.T) {
	both(t, func(w *world) {
		for what, meanwhile := range map[string]func(c connector.Connector) error{
			"edited": func(c connector.Connector) error {
				_, err := w.svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Secrets: secret.Map{"password": hidden("new")}})
				return err
			},
			"deleted": func(c connector.Connector) error {
				_, err := w.svc.Delete(w.ctx(), w.sc, c.ID, connector.DeleteOptions{Version: c.Version})
				return err
			},
		} {
			c := w.create(what, hq)
			began, release := w.hold()
			done := make(chan connector.TestResult, 1)
			go func() {
				r, err := w.svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{})
				if err != nil {
					t.Error(err)
				}
				done <- r
			}()
			<-began
			w.ok(meanwhile(c))
			release()
			if r := <-done; !r.Stale || !r.OK || r.State != "" || r.Version != 1 {
				t.Errorf("%s: %+v", what, r)
			}
			after, err := connector.Find(w.ctx(), w.store.Tenant(acme), c.ID)
			w.ok(err)
			if after.State != connector.StateUntested || after.LastTest != nil {
				t.Errorf("%s: recorded", what)
			}
			w.lab.tests(nil)
		}
	})
}

func TestLimitsPerTenant(t *testing.T) {
	both(t, func(w *world) {
		var mu sync.Mutex
		now := time.Now()
		ahead := func(d time.Duration) { mu.Lock(); now = now.Add(d); mu.Unlock() }
		svc := w.service(func(o *connector.ServiceOptions) {
			o.TestsPerMinute, o.TestsInFlight = 6, 2
			o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		})
		draft := func(sc connector.Scope) error {
			_, err := svc.TestDraft(w.ctx(), sc, w.draft("x", hq), connector.ID{}, connector.TestOptions{})
			return err
		}
		other := connector.Scope{Tenant: globex, AllOrganizations: true, Actor: "greg"}
		began, release := w.hold()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { w.ok(draft(w.sc)) })
			<-began
		}
		err := draft(w.sc)
		if w.code(err, fault.RateLimited, "a third at a time"); fault.RetryAfter(err) <= 0 {
			t.Error("it doesn't say when to come back")
		}
		wg.Go(func() { w.ok(draft(other)) }) // another tenant's are its own
		<-began
		release()
		wg.Wait()
		w.lab.tests(nil)
		for range 4 {
			w.ok(draft(w.sc))
		}
		err = draft(w.sc)
		if w.code(err, fault.RateLimited, "a seventh in a minute"); fault.RetryAfter(err) != 10*time.Second {
			t.Errorf("come back in %v", fault.RetryAfter(err))
		}
		w.ok(draft(other))
		ahead(10 * time.Second)
		w.ok(draft(w.sc))
		w.code(draft(w.sc), fault.RateLimited, "one more than came back")
		ahead(time.Hour)
		for range 6 {
			w.ok(draft(w.sc))
		}
		w.code(draft(w.sc), fault.RateLimited, "an hour's rest is no hour's tests")
	})
}

// The real kind, against a real server: created, tested, activated, resolved.
func TestSMTPEndToEnd(t *testing.T) {
	both(t, func(w *world) {
		server := testenv.SMTP(t)
		w.roots = server.Roots
		svc := w.service(nil)
		d := connector.Draft{Name: "Mail", Kind: "smtp", Organization: hq,
			Params:  map[string]any{"host": server.Host, "port": server.Port, "username": server.Username, "from": "acme@acme.example"},
			Secrets: secret.Map{"password": secret.New("wrong")}}
		out, err := svc.Create(w.ctx(), w.sc, d)
		w.ok(err)
		c := out.Connector
		r, err := svc.TestConnection(w.ctx(), w.sc, c.ID, connector.TestOptions{Level: 2})
		w.ok(err)
		if r.OK || r.Fault() != providers.FaultConfig || r.State != connector.StateError {
			t.Fatalf("a wrong password: %+v", r)
		}
		_, err = svc.Activate(w.ctx(), w.sc, c.ID, connector.ActivateOptions{})
		w.code(err, fault.Conflict, "after a failed test")
		out, err = svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Active: ptr(true), Default: ptr(true), Secrets: secret.Map{"password": secret.New(server.Password)}})
		w.ok(err)
		if c = out.Connector; !c.Active || c.State != connector.StateConnected {
			t.Fatalf("%+v", c)
		}
		res, err := svc.Resolve(w.ctx(), w.sc, hq, providers.Email)
		w.ok(err)
		if res.Connector.ID != c.ID || res.Backend.Params["tls"] != "starttls" || !res.Backend.Secrets["password"].Equal(secret.New(server.Password)) {
			t.Errorf("%+v", res)
		}
		_, err = svc.Update(w.ctx(), w.sc, c.ID, c.Version, connector.Edit{Params: map[string]any{"host": "elsewhere.example"}})
		w.violations(err, "another host", "/secrets/password secret_required")
		_, err = svc.TestDraft(w.ctx(), w.sc, connector.Draft{Params: map[string]any{"host": "127.0.0.2", "port": server.Port, "username": server.Username}}, c.ID, connector.TestOptions{})
		w.ok(err) // what it says is the kind's; that the password stayed home is below
		r, err = svc.TestDraft(w.ctx(), w.sc, connector.Draft{Params: map[string]any{"host": "127.0.0.2"}}, c.ID, connector.TestOptions{})
		w.ok(err)
		if len(r.Withheld) != 1 || r.Withheld[0] != "password" {
			t.Errorf("%+v", r)
		}
	})
}

func TestScopes(t *testing.T) {
	t.Parallel()
	kit := tenanttest.New(t)
	env := kit.Env("acme", "hq", "hq", "labs")
	sc := connector.ScopeOf(env, "req-7")
	if sc.Tenant != acme || sc.AllOrganizations || sc.Platform || len(sc.Organizations) != 2 || sc.Actor != strings.TrimSpace(env.Issuer()+" "+env.Subject()) || sc.Request != "req-7" {
		t.Errorf("%+v", sc)
	}
	if sc := connector.ScopeOf(kit.Env("acme", "", "*"), ""); !sc.AllOrganizations || len(sc.Organizations) != 0 {
		t.Errorf("%+v", sc)
	}
	if sc := connector.System(acme); sc.Actor != "system" || !sc.AllOrganizations || !sc.Platform || sc.Tenant != acme {
		t.Errorf("%+v", sc)
	}
}
