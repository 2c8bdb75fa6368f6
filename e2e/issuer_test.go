package e2e

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv/oidc"
)

// The OAuth2 client of a tenant, as its issuer knows it.
const (
	clientID     = "web"
	clientSecret = "CANARY+client/secret of the tenant-5f1c"
	redirectURL  = "http://127.0.0.1:9/cb"
	publicURL    = "http://127.0.0.1:9" // what browsers call the control plane
)

var registered = sync.OnceFunc(func() {
	oidc.RegisterClient(clientID, clientSecret, redirectURL, publicURL+"/api/connectors/oauth/callback/microsoft_graph_mail")
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

func newIssuer(t testing.TB, life time.Duration) *issuer {
	t.Helper()
	registered()
	i := &issuer{life: life, ends: map[string]time.Time{}, secret: map[string]bool{}}
	i.url = strings.TrimSuffix(oidc.Start(t, oidc.Options{Life: life, Rotates: true, Between: func(provider http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { i.serve(provider, w, r) })
	}}), "/")
	return i
}

func (i *issuer) serve(provider http.Handler, w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/organizations/oauth2/v2.0/authorize":
		r.URL.Path = "/auth"
	case "/organizations/oauth2/v2.0/token":
		if do := i.before.Load(); do != nil && (*do)(w, r) {
			return
		}
		r.URL.Path = "/oauth/token"
		i.token(provider, w, r)
		return
	}
	provider.ServeHTTP(w, r)
}

// token notes what the provider hands out, and until when that is good.
func (i *issuer) token(provider http.Handler, w http.ResponseWriter, r *http.Request) {
	said := oidc.Ask(provider, r)
	i.mu.Lock()
	if said.Access != "" {
		i.ends[said.Access] = said.Ends
		i.secret[said.Access], i.secret[said.Refresh] = true, true
		i.newest = said.Access
		if said.Refreshed {
			i.issued = append(i.issued, said.Begun)
			i.refreshed.Add(1)
		}
	}
	i.mu.Unlock()
	if said.Error != "" {
		i.refused.Add(1)
	}
	said.Pass(w)
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
	return oidc.Consent(t, i.url+"/", at)
}
