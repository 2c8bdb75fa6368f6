package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// google is a token endpoint as Google documents it for service accounts
// (https://developers.google.com/identity/protocols/oauth2/service-account).
type google struct {
	url   string // whole
	email string
	key   *rsa.PrivateKey

	mu       sync.Mutex
	asserted map[string]bool
	ends     map[string]time.Time
	refused  []string
}

func newGoogle(t testing.TB) *google {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	g := &google{email: "patchbay@initech.iam.gserviceaccount.com", key: key, asserted: map[string]bool{}, ends: map[string]time.Time{}}
	server := httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(server.Close)
	g.url = server.URL + "/token"
	return g
}

func (g *google) serve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if err := g.verify(r); err != nil {
		g.refused = append(g.refused, err.Error())
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"error": "invalid_grant"}`))
		return
	}
	access := fmt.Sprintf("ya29.CANARY-%d", len(g.ends))
	g.ends[access] = time.Now().Add(life)
	_ = json.NewEncoder(w).Encode(map[string]any{"access_token": access, "expires_in": int(life.Seconds()), "token_type": "Bearer"})
}

// verify holds an assertion against the account.
func (g *google) verify(r *http.Request) error {
	if kind := r.PostFormValue("grant_type"); r.URL.Path != "/token" || kind != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return fmt.Errorf("%s %s", r.URL.Path, kind)
	}
	signed, err := jose.ParseSigned(r.PostFormValue("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return err
	}
	payload, err := signed.Verify(&g.key.PublicKey)
	if err != nil {
		return err
	}
	var c struct {
		Iss, Sub, Aud, Scope, Jti string
		Iat, Exp                  int64
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return err
	}
	now := time.Now().Unix()
	switch {
	case signed.Signatures[0].Header.KeyID != "key-1":
		return fmt.Errorf("key %s", signed.Signatures[0].Header.KeyID)
	case c.Iss != g.email || c.Sub != "files@initech.example" || c.Aud != g.url || c.Scope == "":
		return fmt.Errorf("claims %+v", c)
	case c.Iat > now+1 || c.Exp <= now || c.Exp-c.Iat > 3600:
		return fmt.Errorf("from %d to %d at %d", c.Iat, c.Exp, now)
	case c.Jti == "" || g.asserted[c.Jti]:
		return fmt.Errorf("assertion %q again", c.Jti)
	}
	g.asserted[c.Jti] = true
	return nil
}

// A service account's key file leads to tokens at the operator's endpoint, one a
// lifetime for the fleet. What the file calls its token_uri is never asked.
func TestServiceAccountOfTheFleet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, options{})
	f.newCacheKey()
	g := newGoogle(t)
	// The place that a key file names, open to everybody: only the kind's own
	// decision keeps assertions from it.
	elsewhere, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = elsewhere.Close() }) // ends the loop
	var contacts atomic.Int64
	go func() {
		for {
			conn, err := elsewhere.Accept()
			if err != nil {
				return
			}
			contacts.Add(1)
			_ = conn.Close() // who came is counted
		}
	}()
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		t.Fatal(err)
	}
	account, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "initech", "private_key_id": "key-1", "client_email": g.email,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"token_uri":   "http://" + elsewhere.Addr().String() + "/token",
	})
	if err != nil {
		t.Fatal(err)
	}
	f.file("account.json", string(account))
	f.importFile(f.file("drive.xml", `<ede><record id="t" model="gateway.tenant"><field name="key">initech</field></record>
<record id="c" model="ir.connector"><field name="name">Drive</field><field name="kind">google_drive</field><field name="tenant_id" ref="t"/><field name="is_default">true</field>
<field name="config" eval="{'auth': 'service_account', 'subject': 'files@initech.example', 'service_account_json': '$FILE:account.json'}"/></record></ede>`)).ok(t)
	env := []string{
		"PATCHBAY_PROVIDERS_ENDPOINTS=" + fmt.Sprintf(`{"google_drive.token": %q}`, g.url),
		"PATCHBAY_EGRESS_ALLOW_LOOPBACK=" + portOf(t, g.url) + "," + portOf(t, "http://"+elsewhere.Addr().String()),
		"PATCHBAY_CACHE_KEY=" + cacheKeyPath,
	}
	defer func() {
		if n := contacts.Load(); n != 0 {
			t.Errorf("what the key file names was contacted %d times", n)
		}
	}()
	f.control(env...)
	sidecars := []*process{f.serve(env...), f.serve(env...)}
	token := f.token("initech", "")
	made := func() int { g.mu.Lock(); defer g.mu.Unlock(); return len(g.ends) }
	begun := time.Now()
	for lives := 1; lives <= 2; lives++ {
		f.eventually("both serve the token of this life", func() bool {
			served := map[string]bool{}
			for _, s := range sidecars {
				asked := time.Now()
				got := s.get("/v1/resolve/storage", token)
				if got.code != http.StatusOK {
					t.Fatalf("%d %s", got.code, got.body)
				}
				now, err := mintedOf(got)
				if err != nil {
					t.Fatal(err)
				}
				g.mu.Lock()
				end, ours := g.ends[now.access]
				g.mu.Unlock()
				if !ours || !asked.Before(end) || now.expires.After(end) {
					t.Fatalf("a token that ended %s ago (its issuer knows it: %t)", asked.Sub(end), ours)
				}
				served[now.access] = true
			}
			return len(served) == 1 && made() == lives
		})
	}
	// Due is 70 % of a life at the earliest, less what is kept back for clocks.
	if n := counted("patchbay_oauth_mints_total", sidecars...); n != 2 || made() != 2 || time.Since(begun) < life*2/3 {
		t.Errorf("%v tokens minted, %d handed out in %s", n, made(), time.Since(begun))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.refused) > 0 {
		t.Errorf("refused: %s", strings.Join(g.refused, "; "))
	}
}
