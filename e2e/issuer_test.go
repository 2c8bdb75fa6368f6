package e2e

import (
	"context"
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
	"sync/atomic"
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	opstore "github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

// The OAuth2 client of a tenant, as its issuer knows it.
const (
	clientID     = "web"
	clientSecret = "CANARY+client/secret of the tenant-5f1c"
	redirectURL  = "http://127.0.0.1:9/cb"
	publicURL    = "http://127.0.0.1:9" // what browsers call the control plane
)

// The provider's register of clients is one per process.
var registered = sync.OnceFunc(func() {
	opstore.RegisterClients(opstore.WebClient(clientID, clientSecret, redirectURL, publicURL+"/api/connectors/oauth/callback/microsoft_graph_mail"))
})

// issuer is a real OpenID provider at the paths of Microsoft's. It replaces a
// refresh token with each use and takes none twice, so that two refreshes where
// one was due would show: the second is refused, and counted.
type issuer struct {
	url  string
	life time.Duration

	// before sees a token request, and may answer it in the provider's place.
	before atomic.Pointer[func(w http.ResponseWriter, r *http.Request) bool]

	refreshed, refused atomic.Int64

	mu     sync.Mutex
	ends   map[string]time.Time // of access tokens, as they were stated
	issued []time.Time          // when refreshes came in
	newest string               // the access token that was handed out last
	secret map[string]bool      // everything that was handed out
}

// provider is the storage of zitadel's example with a life of our choice.
type provider struct {
	*opstore.Storage

	life time.Duration
}

// expiry leaves room for the seconds that the provider cuts off.
func (p *provider) expiry() time.Time { return time.Now().Add(p.life + 900*time.Millisecond) }

func (p *provider) CreateAccessToken(ctx context.Context, r op.TokenRequest) (string, time.Time, error) {
	id, _, err := p.Storage.CreateAccessToken(ctx, r)
	return id, p.expiry(), err
}

func (p *provider) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, current string) (string, string, time.Time, error) {
	id, next, _, err := p.Storage.CreateAccessAndRefreshTokens(ctx, r, current)
	return id, next, p.expiry(), err
}

func (p *provider) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := p.Storage.GetClientByClientID(ctx, id)
	if err != nil {
		return nil, err
	}
	return jwtClient{c}, nil
}

// jwtClient gets JWTs for access tokens, as Microsoft's clients do.
type jwtClient struct{ op.Client }

func (jwtClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

func newIssuer(t testing.TB, life time.Duration) *issuer {
	t.Helper()
	registered()
	i := &issuer{life: life, ends: map[string]time.Time{}, secret: map[string]bool{}}
	server := httptest.NewUnstartedServer(nil)
	i.url = "http://" + server.Listener.Addr().String()
	p := &provider{Storage: opstore.NewStorage(opstore.NewUserStore(i.url + "/")), life: life}
	inner := exampleop.SetupServer(i.url+"/", p, slog.New(slog.DiscardHandler), false)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.serve(inner, w, r) })
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return i
}

func (i *issuer) serve(inner http.Handler, w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/organizations/oauth2/v2.0/authorize":
		r.URL.Path = "/auth"
	case "/organizations/oauth2/v2.0/token":
		if do := i.before.Load(); do != nil && (*do)(w, r) {
			return
		}
		r.URL.Path = "/oauth/token"
		i.token(inner, w, r)
		return
	}
	inner.ServeHTTP(w, r)
}

// token notes what the provider hands out, and until when that is good.
func (i *issuer) token(inner http.Handler, w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // what is wrong with it the provider says
	begun := time.Now()
	rec := httptest.NewRecorder()
	inner.ServeHTTP(rec, r)
	var said struct {
		Access  string `json:"access_token"`
		Refresh string `json:"refresh_token"`
		Expires int    `json:"expires_in"`
		Error   string `json:"error"`
	}
	_ = json.Unmarshal(rec.Body.Bytes(), &said) // what is no JSON holds no token
	i.mu.Lock()
	if said.Access != "" {
		i.ends[said.Access] = begun.Add(time.Duration(said.Expires) * time.Second)
		i.secret[said.Access], i.secret[said.Refresh] = true, true
		i.newest = said.Access
		if r.PostForm.Get("grant_type") == "refresh_token" {
			i.issued = append(i.issued, begun)
			i.refreshed.Add(1)
		}
	}
	i.mu.Unlock()
	if said.Error != "" {
		i.refused.Add(1)
	}
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes()) // a client that has gone is its own test
}

// end is when an access token ends; false for one of somebody else's.
func (i *issuer) end(access string) (time.Time, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	end, ok := i.ends[access]
	return end, ok
}

// latest is the access token that was handed out last.
func (i *issuer) latest() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.newest
}

// handedOut is every token that was ever handed out.
func (i *issuer) handedOut() (tokens []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for token := range i.secret {
		tokens = append(tokens, token)
	}
	return tokens
}

// moments is when refreshes came in.
func (i *issuer) moments() []time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return append([]time.Time(nil), i.issued...)
}

// agree plays a user who consents in a browser, and returns the code.
func (i *issuer) agree(t testing.TB, at string) (code secret.Value) {
	t.Helper()
	u := i.comeBack(t, at)
	if !strings.HasPrefix(u.String(), redirectURL) || u.Query().Get("state") != "a state" || u.Query().Get("code") == "" {
		t.Fatalf("came back to %s", u)
	}
	return secret.New(u.Query().Get("code"))
}

// comeBack plays a user who consents in a browser, and returns where that is sent.
func (i *issuer) comeBack(t testing.TB, at string) *url.URL {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, Timeout: patience, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
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
	u = next(browser.PostForm(i.url+"/login/username", url.Values{
		"id": {u.Query().Get("authRequestID")}, "username": {"test-user@" + u.Hostname()}, "password": {"verysecure"},
	}))
	return next(browser.Get(u.String()))
}
