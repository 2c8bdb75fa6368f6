//go:build secondissuer

package oauth

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
)

// secondIssuer names the program of testdata, in a folder with its packages. It
// needs node, which the other tests don't: `make second-issuer` brings both.
const secondIssuer = "PATCHBAY_SECOND_ISSUER"

func startSecond(t *testing.T, auth string, rotates bool) (address string) {
	t.Helper()
	cmd := exec.Command("node", os.Getenv(secondIssuer))
	cmd.Env = append(os.Environ(), "LIFE=3", "AUTH="+auth, "ROTATES="+map[bool]string{true: "true", false: "false"}[rotates])
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := testenv.Start(cmd); err != nil {
		t.Fatalf("%v; run: make second-issuer", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "http://") {
			return lines.Text()
		}
	}
	t.Fatal("the second issuer did not start; run: make second-issuer")
	return ""
}

// agreeSecond plays a user at the second issuer's pages.
func agreeSecond(t *testing.T, at string) secret.Value {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(r.URL.String(), redirectURL) {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	res, err := browser.Get(at)
	for _, form := range []url.Values{{"prompt": {"login"}, "login": {"somebody"}, "password": {"x"}}, {"prompt": {"consent"}}} {
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		res, err = browser.PostForm(res.Request.URL.String(), form)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	u, err := res.Location()
	if err != nil || u.Query().Get("code") == "" || u.Query().Get("state") != "a state" {
		body, _ := io.ReadAll(res.Body)
		t.Fatalf("%d at %s: %v %s", res.StatusCode, res.Request.URL, err, body)
	}
	return secret.New(u.Query().Get("code"))
}

func TestSecondIssuer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		auth, style string
		rotates     bool
	}{
		"rotating, Basic": {"client_secret_basic", "header", true}, "keeping, body": {"client_secret_post", "params", false},
		"rotating, body found out": {"client_secret_post", "", true}, "keeping, Basic found out": {"client_secret_basic", "", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := startSecond(t, tc.auth, tc.rotates)
			w := newWorld(t, providers.OAuthApp{
				Flow: providers.FlowConsent, ClientID: "web", ClientSecret: secret.New("s3cret+/ canary"), AuthStyle: tc.style, Rotates: tc.rotates,
				AuthURL: at + "/auth", TokenURL: at + "/token", RevokeURL: at + "/token/revocation", Scopes: []string{"openid", "offline_access"},
				AuthParams: map[string]string{"prompt": "consent"},
			})
			ms := []*Manager{w.manager(nil), w.manager(nil), w.manager(nil)}
			verifier := NewVerifier()
			values, _, err := ms[0].Exchange(within(t, 20*time.Second), w.app, agreeSecond(t, AuthCodeURL(w.app, redirectURL, "a state", verifier)), verifier, redirectURL)
			if err != nil {
				t.Fatal(err)
			}
			w.give(values)
			first := values[grantRefresh]
			end, n := time.Now().Add(12*time.Second), 0
			for time.Now().Before(end) {
				for _, m := range ms {
					tok := w.ask(m)
					req, err := http.NewRequestWithContext(within(t, 5*time.Second), http.MethodGet, at+"/me", nil)
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Authorization", "Bearer "+tok.Access.Reveal())
					res, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Fatal(err)
					}
					res.Body.Close()
					if res.StatusCode != 200 {
						t.Fatalf("the issuer refuses a token that was served: %d", res.StatusCode)
					}
					n++
				}
				<-time.After(50 * time.Millisecond)
			}
			var refreshes int64
			for _, m := range ms {
				refreshes += m.Stats.Refreshes.Load()
			}
			g := w.stored()
			if refreshes < 4 || g.Version != 1+refreshes || g.Values[grantRefresh].Equal(first) == tc.rotates {
				t.Errorf("%d refreshes, version %d", refreshes, g.Version)
			}
			t.Logf("%d tokens accepted, %d refreshes", n, refreshes)
			if err := ms[0].Revoke(within(t, 20*time.Second), w.ref, w.app); err != nil {
				t.Fatal(err)
			}
			w.age(-time.Second)
			w.fails(ms[1], providers.CodeNeedsReauthorization, fault.NeedsReauthorization)

			app := w.app
			app.Flow, app.Scopes = providers.FlowClientCredentials, nil
			if tok, err := ms[0].Source(w.ref, app).Token(within(t, 20*time.Second)); err != nil || !tok.Access.IsSet() {
				t.Error(err)
			}
		})
	}
}
