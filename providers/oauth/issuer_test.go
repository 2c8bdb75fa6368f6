package oauth

import (
	"crypto/rsa"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv/oidc"
	"github.com/patchbay-dev/patchbay/providers"
)

const redirectURL = "http://127.0.0.1:9/cb"

// issuer is a real OpenID provider whose tokens live as long as a test says. It
// notes what it hands out, and until when that is good by its own clock.
type issuer struct {
	url     string // ends in a slash
	life    time.Duration
	rotates bool
	grace   time.Duration // in which a replaced refresh token is taken again
	key     *rsa.PublicKey

	// before sees a token request before it is read, and may answer it itself; after
	// may drop what was answered.
	before, after atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]

	posts     atomic.Int64 // token requests that reached the provider
	refreshed atomic.Int64
	minted    atomic.Int64
	invalid   atomic.Int64 // invalid_grant
	revoked   atomic.Int64

	mu     sync.Mutex
	ends   map[string]time.Time // of access tokens
	issued []time.Time          // of refreshes
}

const webID, webSecret = "web", "s3cret+/ canary"

var registered = sync.OnceFunc(func() { oidc.RegisterClient(webID, webSecret, redirectURL) })

func newIssuer(t testing.TB, life time.Duration, rotates bool) *issuer {
	t.Helper()
	registered()
	i := &issuer{life: life, rotates: rotates, ends: map[string]time.Time{}}
	i.url = oidc.Start(t, oidc.Options{
		Life: life, Rotates: rotates,
		Grace: func() time.Duration { return i.grace },
		Key:   func() *rsa.PublicKey { return i.key },
		Between: func(provider http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.serve(provider, w, r) })
		},
	})
	return i
}

func (i *issuer) serve(provider http.Handler, w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/revoke" {
		i.revoked.Add(1)
	}
	if r.URL.Path != "/oauth/token" {
		provider.ServeHTTP(w, r)
		return
	}
	if f := i.before.Load(); f != nil && (*f)(w, r) {
		return
	}
	i.posts.Add(1)
	said := oidc.Ask(provider, r)
	if said.Access != "" {
		i.mu.Lock()
		i.ends[said.Access] = said.Ends
		if said.Refreshed {
			i.issued = append(i.issued, said.Begun)
			i.refreshed.Add(1)
		} else {
			i.minted.Add(1)
		}
		i.mu.Unlock()
	}
	if said.Error == "invalid_grant" {
		i.invalid.Add(1)
	}
	if f := i.after.Load(); f != nil && (*f)(w, r) {
		return
	}
	said.Pass(w)
}

// good tells whether a token was handed out here and has not ended.
func (i *issuer) good(access string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Now().Before(i.ends[access])
}

func (i *issuer) app() providers.OAuthApp {
	return providers.OAuthApp{
		Flow: providers.FlowConsent, ClientID: webID, ClientSecret: secret.New(webSecret),
		AuthURL: i.url + "auth", TokenURL: i.url + "oauth/token", RevokeURL: i.url + "revoke",
		AuthStyle: "header", Scopes: []string{"openid", "offline_access"}, Rotates: i.rotates,
	}
}

// agree plays a user who consents, and returns the code.
func (i *issuer) agree(t testing.TB, at string) (code secret.Value) {
	t.Helper()
	u := oidc.Consent(t, i.url, at)
	if u.Query().Get("state") != "a state" || u.Query().Get("code") == "" {
		t.Fatalf("came back to %s", u)
	}
	return secret.New(u.Query().Get("code"))
}

// scripted is a token endpoint that answers as a test says. It counts.
type scripted struct {
	*httptest.Server
	asked atomic.Int64
	mu    sync.Mutex
	forms []url.Values
	basic []string
}

func newScripted(t testing.TB, h http.HandlerFunc) *scripted {
	t.Helper()
	s := &scripted{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		_ = r.ParseForm()
		user, _, _ := r.BasicAuth()
		s.mu.Lock()
		s.forms, s.basic = append(s.forms, r.PostForm), append(s.basic, user)
		s.mu.Unlock()
		h(w, r)
	}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

func (s *scripted) sent() ([]url.Values, []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.forms), slices.Clone(s.basic)
}

// answersWith is a JSON answer.
func answersWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.Copy(w, strings.NewReader(body))
	}
}

// answered is a hook that answers with a status, and counts.
func answered(status int, n *atomic.Int64) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, _ *http.Request) bool {
		n.Add(1)
		w.WriteHeader(status)
		return true
	}
}
