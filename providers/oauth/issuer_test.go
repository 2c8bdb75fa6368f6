package oauth

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	example "github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/patchbay-dev/patchbay/internal/secret"
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

// provider is the storage of zitadel's example with our lifetimes and rotation.
type provider struct {
	*example.Storage

	i        *issuer
	mu       sync.Mutex
	replaced map[string]replacement
}

type replacement struct {
	by string
	at time.Time
}

// expiry leaves room for the seconds that the provider cuts off.
func (p *provider) expiry() time.Time { return time.Now().Add(p.i.life + 900*time.Millisecond) }

func (p *provider) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, _, err := p.Storage.CreateAccessToken(ctx, r)
	return id, p.expiry(), err
}

func (p *provider) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, current string) (string, string, time.Time, error) {
	if current != "" && !p.i.rotates {
		id, _, err := p.Storage.CreateAccessToken(ctx, r)
		return id, current, p.expiry(), err
	}
	used := p.newest(current)
	id, next, _, err := p.Storage.CreateAccessAndRefreshTokens(ctx, r, used)
	if err == nil && used != "" {
		p.mu.Lock()
		p.replaced[used] = replacement{next, time.Now()}
		p.mu.Unlock()
	}
	return id, next, p.expiry(), err
}

// newest follows the replacements of a refresh token while the grace lasts.
func (p *provider) newest(token string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		r, ok := p.replaced[token]
		if !ok || time.Since(r.at) >= p.i.grace {
			return token
		}
		token = r.by
	}
}

func (p *provider) TokenRequestByRefreshToken(ctx context.Context, token string) (op.RefreshTokenRequest, error) {
	return p.Storage.TokenRequestByRefreshToken(ctx, p.newest(token))
}

func (p *provider) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := p.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return jwtClient{c}, nil
}

// GetKeyByIDAndClientID is the key of the one service account.
func (p *provider) GetKeyByIDAndClientID(_ context.Context, keyID, _ string) (*jose.JSONWebKey, error) {
	return &jose.JSONWebKey{KeyID: keyID, Use: "sig", Key: p.i.key}, nil
}

type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

var registered = sync.OnceFunc(func() { example.RegisterClients(example.WebClient("web", "s3cret+/ canary", redirectURL)) })

func newIssuer(t testing.TB, life time.Duration, rotates bool) *issuer {
	t.Helper()
	registered()
	i := &issuer{life: life, rotates: rotates, ends: map[string]time.Time{}}
	server := httptest.NewUnstartedServer(nil)
	i.url = "http://" + server.Listener.Addr().String() + "/"
	p := &provider{Storage: example.NewStorage(example.NewUserStore(i.url)), i: i, replaced: map[string]replacement{}}
	inner := exampleop.SetupServer(i.url, p, slog.New(slog.DiscardHandler), false)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.serve(inner, w, r) })
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return i
}

func (i *issuer) serve(inner http.Handler, w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/revoke" {
		i.revoked.Add(1)
	}
	if r.URL.Path != "/oauth/token" {
		inner.ServeHTTP(w, r)
		return
	}
	if f := i.before.Load(); f != nil && (*f)(w, r) {
		return
	}
	_ = r.ParseForm()
	begun := time.Now()
	i.posts.Add(1)
	rec := httptest.NewRecorder()
	inner.ServeHTTP(rec, r)
	var said struct {
		Access  string `json:"access_token"`
		Expires int    `json:"expires_in"`
		Error   string `json:"error"`
	}
	_ = json.Unmarshal(rec.Body.Bytes(), &said)
	if said.Access != "" {
		i.mu.Lock()
		i.ends[said.Access] = begun.Add(time.Duration(said.Expires) * time.Second)
		if r.PostForm.Get("grant_type") == "refresh_token" {
			i.issued = append(i.issued, begun)
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
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// good tells whether a token was handed out here and has not ended.
func (i *issuer) good(access string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return time.Now().Before(i.ends[access])
}

func (i *issuer) app() providers.OAuthApp {
	return providers.OAuthApp{
		Flow: providers.FlowConsent, ClientID: "web", ClientSecret: secret.New("s3cret+/ canary"),
		AuthURL: i.url + "auth", TokenURL: i.url + "oauth/token", RevokeURL: i.url + "revoke",
		AuthStyle: "header", Scopes: []string{"openid", "offline_access"}, Rotates: i.rotates,
	}
}

// agree plays a user who consents, and returns the code.
func (i *issuer) agree(t testing.TB, at string) (code secret.Value) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	next := func(res *http.Response, err error) *url.URL {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		l, err := res.Location()
		if err != nil {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		return l
	}
	u := next(browser.Get(at))
	u = next(browser.PostForm(i.url+"login/username", url.Values{
		"id": {u.Query().Get("authRequestID")}, "username": {"test-user@" + u.Hostname()}, "password": {"verysecure"},
	}))
	u = next(browser.Get(u.String()))
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
