package oidc

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
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// Options are a provider's. The functions are asked each time.
type Options struct {
	Life    time.Duration // of access tokens
	Rotates bool          // a refresh replaces the refresh token, which is taken once
	// Grace is how long a replaced refresh token is taken again; nil: not at all.
	Grace func() time.Duration
	// Key is the public key of the one service account; nil where there is none.
	Key func() *rsa.PublicKey
	// Between stands between clients and the provider; nil: nothing does.
	Between func(provider http.Handler) http.Handler
}

// RegisterClient makes a web client known to all providers of this process, whose
// register the example's storage keeps in one place. Call it once per client, before
// the first Start.
func RegisterClient(id, secret string, redirects ...string) {
	storage.RegisterClients(storage.WebClient(id, secret, redirects...))
}

// Start starts a provider on loopback, until the test ends, and returns its URL,
// which ends in a slash. Its endpoints are auth, oauth/token and revoke.
func Start(t testing.TB, o Options) string {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	at := "http://" + server.Listener.Addr().String() + "/"
	p := &provider{Storage: storage.NewStorage(storage.NewUserStore(at)), o: o, replaced: map[string]replacement{}}
	server.Config.Handler = exampleop.SetupServer(at, p, slog.New(slog.DiscardHandler), false)
	if o.Between != nil {
		server.Config.Handler = o.Between(server.Config.Handler)
	}
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return at
}

// Consent plays a user who logs in and agrees at an authorization URL, and returns
// where the browser is sent with the code.
func Consent(t testing.TB, provider, at string) *url.URL {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	next := func(method, at string, form url.Values) *url.URL {
		t.Helper()
		req, err := http.NewRequest(method, at, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if form != nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		res, err := browser.Do(req)
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
	u := next(http.MethodGet, at, nil)
	u = next(http.MethodPost, provider+"login/username", url.Values{
		"id": {u.Query().Get("authRequestID")}, "username": {"test-user@" + u.Hostname()}, "password": {"verysecure"},
	})
	return next(http.MethodGet, u.String(), nil)
}

// Answer is what a provider said to a token request, not yet passed on.
type Answer struct {
	Access, Refresh string    // "" where none was handed out
	Ends            time.Time // of Access, by the provider's clock and word
	Refreshed       bool      // handed out for a refresh token
	Error           string    // RFC 6749's, such as invalid_grant; "" where there is none
	Begun           time.Time // when the request was passed to the provider

	recorded *httptest.ResponseRecorder
}

// Ask passes a token request to a provider.
func Ask(provider http.Handler, r *http.Request) Answer {
	_ = r.ParseForm() // what is wrong with it the provider says
	a := Answer{Begun: time.Now(), recorded: httptest.NewRecorder()}
	provider.ServeHTTP(a.recorded, r)
	var said struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Expires int    `json:"expires_in"`
		Error   string `json:"error"`
	}
	_ = json.Unmarshal(a.recorded.Body.Bytes(), &said) // what is no JSON holds no token
	a.Access, a.Refresh, a.Error = said.Access, said.Refresh, said.Error
	a.Ends = a.Begun.Add(time.Duration(said.Expires) * time.Second)
	a.Refreshed = said.Access != "" && r.PostForm.Get("grant_type") == "refresh_token"
	return a
}

// Pass passes the answer on.
func (a Answer) Pass(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.recorded.Header())
	w.WriteHeader(a.recorded.Code)
	_, _ = w.Write(a.recorded.Body.Bytes()) // a client that has gone is its own test
}

// provider is the example's storage with lifetimes and rotation of our choice.
type provider struct {
	*storage.Storage

	o        Options
	mu       sync.Mutex
	replaced map[string]replacement // by refresh token; guarded by mu
}

type replacement struct {
	by string
	at time.Time
}

// expiry leaves room for the seconds that the provider cuts off.
func (p *provider) expiry() time.Time { return time.Now().Add(p.o.Life + 900*time.Millisecond) }

func (p *provider) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, _, err := p.Storage.CreateAccessToken(ctx, r)
	return id, p.expiry(), err
}

func (p *provider) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, current string) (string, string, time.Time, error) {
	if current != "" && !p.o.Rotates {
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
	if p.o.Grace == nil {
		return token
	}
	grace := p.o.Grace()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		r, ok := p.replaced[token]
		if !ok || time.Since(r.at) >= grace {
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
func (p *provider) GetKeyByIDAndClientID(ctx context.Context, keyID, clientID string) (*jose.JSONWebKey, error) {
	if p.o.Key == nil {
		return p.Storage.GetKeyByIDAndClientID(ctx, keyID, clientID)
	}
	return &jose.JSONWebKey{KeyID: keyID, Use: "sig", Key: p.o.Key()}, nil
}

// jwtClient gets JWTs for access tokens, as Microsoft's clients do.
type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }
