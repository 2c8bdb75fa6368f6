package oauth

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/internal/egress"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver/rediscache"
	"github.com/patchbay-dev/patchbay/vault"
)

// holderPlan makes this test binary a process that refreshes one grant and stops at
// a step, where the test kills it.
const holderPlan = "PATCHBAY_OAUTH_HOLDER"

type plan struct {
	Place     place
	Redis     string
	Prefix    string
	Issuer    string
	Connector string
	Version   int64
	Step      string
}

// killTimeout is the HTTP timeout here; the lease is two and a half of it.
const killTimeout = 800 * time.Millisecond

// holder is the process. It says "at <step>" and waits to be killed.
func holder(text string) {
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		panic(err)
	}
	must := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	ctx := context.Background()
	s, err := postgres.Open(ctx, postgres.Options{URL: secret.New(p.Place.SidecarURL), MaxConns: 4})
	must(err)
	v, err := vault.Open(ctx, vault.Options{Address: p.Place.VaultAddr, Mount: p.Place.Mount, Auth: vault.Auth{Method: vault.AuthToken, TokenFile: p.Place.TokenFile}})
	must(err)
	c, err := rediscache.Open(rediscache.Options{URL: secret.New(p.Redis), Prefix: p.Prefix})
	must(err)
	d, err := egress.New(egress.Config{AnyLoopback: true})
	must(err)
	m, err := New(Options{
		Lease: s, Grants: v, Cache: c, CacheKey: fixedKey("k", 1),
		Client: providers.Runtime{Transport: d.Transport()}.Client(), HTTPTimeout: killTimeout,
	})
	must(err)
	m.step = func(name string) {
		if name == p.Step {
			fmt.Println("at", name)
			select {}
		}
	}
	id, err := connector.ParseID(p.Connector)
	must(err)
	i := &issuer{url: p.Issuer, rotates: true}
	_, err = m.Source(connector.GrantRef{Tenant: acme, Connector: id, GrantVersion: p.Version}, i.app()).Token(ctx)
	must(err)
	fmt.Println("at the end")
	select {}
}

// Must show 3: the holder of the lease is killed at each step. Whoever comes after
// it has the token again, and the grant is lost only where the issuer took the
// refresh token, gave its successor to nobody else and takes none twice.
func TestTheHolderKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, step string
		grace      bool
		refreshed  int64 // by all
		lost       bool
		atOnce     bool // nobody waits for the lease
	}{
		{name: "has the lease", step: "leased", refreshed: 1},
		{name: "has read the grant", step: "read", refreshed: 1},
		{name: "is about to ask", step: "asking", refreshed: 1},
		{name: "has asked, and the issuer has not read", step: "unread", refreshed: 1},
		{name: "has an answer, the issuer has a grace", step: "answered", grace: true, refreshed: 2},
		{name: "is about to store it, the issuer has a grace", step: "writing", grace: true, refreshed: 2},
		{name: "has an answer, the issuer takes no token twice", step: "answered", refreshed: 1, lost: true},
		{name: "has stored it", step: "written", refreshed: 1},
		{name: "has recorded it", step: "settled", refreshed: 1, atOnce: true},
		{name: "has published it, and not given back the lease", step: "published", refreshed: 1, atOnce: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			i := newIssuer(t, time.Hour, true)
			if tc.grace {
				i.grace = time.Minute
			}
			w, p := newRealWorld(t, testenv.Postgres(t), testenv.Vault(t), i.app())
			redis := testenv.Redis(t)
			prefix := redis.Prefix(t) + "pb"
			var ms []*Manager
			for range 3 {
				c, err := rediscache.Open(rediscache.Options{URL: secret.New(redis.URL()), Prefix: prefix})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				ms = append(ms, w.manager(func(o *Options) { o.Cache, o.CacheKey, o.HTTPTimeout = c, fixedKey("k", 1), killTimeout }))
			}
			w.consent(ms[0], i)
			w.age(time.Second)
			old := w.stored().Values[grantAccess]
			for _, m := range ms {
				m.holdStored(w)
			}
			reached, killed := make(chan struct{}), make(chan struct{})
			if tc.step == "unread" {
				i.before.Store(hook(func(http.ResponseWriter, *http.Request) bool {
					i.before.Store(nil)
					close(reached)
					<-killed
					panic(http.ErrAbortHandler)
				}))
			}
			cmd := exec.Command(os.Args[0])
			text, err := json.Marshal(plan{p, redis.URL(), prefix, i.url, w.id.String(), w.ref.GrantVersion, tc.step})
			if err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(os.Environ(), holderPlan+"="+string(text))
			cmd.Stderr = os.Stderr
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := testenv.Start(cmd); err != nil {
				t.Fatal(err)
			}
			lines := make(chan string, 1)
			go func() { line, _ := bufio.NewReader(out).ReadString('\n'); lines <- strings.TrimSpace(line) }()
			select {
			case line := <-lines:
				if line != "at "+tc.step {
					t.Errorf("the process said %q", line)
				}
			case <-reached:
			case <-time.After(20 * time.Second):
				t.Error("the process did not get there")
			}
			if w.row().Owner == "" {
				t.Error("it has no lease")
			}
			_ = cmd.Process.Kill()
			close(killed)
			_ = cmd.Wait()
			begun := time.Now()
			var all sync.WaitGroup
			for _, m := range ms {
				all.Go(func() {
					for limit := time.Now().Add(15 * time.Second); ; {
						tok, err := w.source(m).Token(within(t, 15*time.Second))
						switch {
						case tc.lost && fault.CodeOf(err) == fault.NeedsReauthorization:
							return
						case err != nil && fault.CodeOf(err) != fault.Unavailable || time.Now().After(limit):
							t.Errorf("after %v: %v", time.Since(begun), err)
							return
						case err == nil && !tok.Access.Equal(old):
							if !i.good(tok.Access.Reveal()) || tc.lost {
								t.Error("a token from nowhere")
							}
							return
						case err == nil && !time.Now().Before(tok.ExpiresAt.Add(50*time.Millisecond)):
							t.Error("served past its end")
							return
						}
						<-time.After(10 * time.Millisecond)
					}
				})
			}
			all.Wait()
			took := time.Since(begun)
			t.Logf("everybody had an answer after %v", took)
			if tc.atOnce && took > 5*killTimeout/2 {
				t.Error("they waited for the lease of a dead process")
			}
			if n := i.refreshed.Load(); n != tc.refreshed {
				t.Errorf("%d refreshes", n)
			}
			g, invalid := w.stored(), i.invalid.Load()
			eventually(t, "the row says so", 5*time.Second, func() bool {
				row := w.row()
				if tc.lost {
					return row.Status == connector.GrantNeedsReauthorization && row.Version == w.ref.GrantVersion
				}
				return row.Status == connector.GrantActive && row.Version == g.Version
			})
			if tc.lost != (invalid == 1) || invalid > 1 || !tc.lost && g.Version != w.ref.GrantVersion+1 {
				t.Errorf("%d refused, version %d of %d", invalid, g.Version, w.ref.GrantVersion)
			}
		})
	}
}
