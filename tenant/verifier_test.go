package tenant_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// TestBadToken holds every way in which a token is wrong, against a real JWKS
// server that publishes an EC and an RSA key.
func TestBadToken(t *testing.T) {
	t.Parallel()
	ec, rs := newES256(t, "ec"), newRS256(t, "rsa", 2048)
	stranger := newES256(t, "ec") // the right kid, another key
	other := newES256(t, "other")
	srv := newKeyServer(t, jwks(t, ec, rs))
	otherSrv := newKeyServer(t, jwks(t, other))
	v := newVerifier(t,
		tenant.Issuer{Issuer: "https://id.example.com", JWKSURL: srv.URL, Audiences: []string{"patchbay", "spare"}, Algorithms: []string{"ES256", "RS256"}},
		tenant.Issuer{Issuer: "https://pinned.example.com", JWKSURL: otherSrv.URL, Audiences: []string{"patchbay"}, Algorithms: []string{"ES256"}, Tenant: "globex"})
	wantCode(t, v, ec.sign(t, good()), "")
	wantCode(t, v, rs.sign(t, good()), "")
	pinned := map[string]any{"iss": "https://pinned.example.com"}
	wantCode(t, v, other.sign(t, good(pinned, map[string]any{"tenant_id": "globex"})), "")

	with := func(claim string, value any) string { return ec.sign(t, good(map[string]any{claim: value})) }
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	segment := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	der, err := x509.MarshalPKIXPublicKey(rs.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	confused := func(secret []byte) string {
		tok := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims(good()))
		tok.Header["kid"] = "rsa"
		s, err := tok.SignedString(secret)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	header := func(s signer, h map[string]any) string {
		tok := jwt.NewWithClaims(s.method, jwt.MapClaims(good()))
		tok.Header["kid"] = s.kid
		maps.Copy(tok.Header, h)
		out, err := tok.SignedString(s.key)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	valid := ec.sign(t, good())
	parts := strings.Split(valid, ".")
	none := segment(map[string]any{"alg": "none", "kid": "ec"}) + "." + segment(good()) + "."

	for name, c := range map[string]struct {
		token string
		code  fault.Code
		says  string
	}{
		"empty":                            {"", fault.Unauthenticated, "required"},
		"alg none":                         {none, fault.Unauthenticated, "algorithm is not allowed"},
		"alg none with a signature":        {none + parts[2], fault.Unauthenticated, "algorithm is not allowed"},
		"alg nOnE":                         {segment(map[string]any{"alg": "nOnE"}) + "." + segment(good()) + ".", fault.Unauthenticated, "malformed"},
		"no alg":                           {segment(map[string]any{"kid": "ec"}) + "." + parts[1] + "." + parts[2], fault.Unauthenticated, "malformed"},
		"HS256 with the RSA key as PEM":    {confused(rsaPEM), fault.Unauthenticated, "algorithm is not allowed"},
		"HS256 with the RSA key as DER":    {confused(der), fault.Unauthenticated, "algorithm is not allowed"},
		"RS256 header on the EC kid":       {signer{"ec", rs.method, rs.key}.sign(t, good()), fault.Unauthenticated, "signature"},
		"wrong key":                        {stranger.sign(t, good()), fault.Unauthenticated, "signature"},
		"payload swapped":                  {parts[0] + "." + segment(good(map[string]any{"tenant_id": "globex"})) + "." + parts[2], fault.Unauthenticated, "signature"},
		"signature cut":                    {valid[:len(valid)-8], fault.Unauthenticated, ""},
		"signature gone":                   {parts[0] + "." + parts[1] + ".", fault.Unauthenticated, "signature"},
		"wrong issuer":                     {with("iss", "https://evil.example.com"), fault.Unauthenticated, "issuer"},
		"no issuer":                        {with("iss", nil), fault.Unauthenticated, "issuer"},
		"issuer a list":                    {with("iss", []string{"https://id.example.com"}), fault.Unauthenticated, "issuer"},
		"wrong audience":                   {with("aud", "elsewhere"), fault.Unauthenticated, "audience"},
		"no audience":                      {with("aud", nil), fault.Unauthenticated, "required claim"},
		"audiences, none ours":             {with("aud", []string{"a", "b"}), fault.Unauthenticated, "audience"},
		"expired beyond the skew":          {with("exp", in(-31*time.Second)), fault.Unauthenticated, "expired"},
		"not yet valid":                    {with("nbf", in(40*time.Second)), fault.Unauthenticated, "not valid yet"},
		"not valid before the end of time": {with("nbf", 1e300), fault.Unauthenticated, "start of validity"},
		"not valid before a bad date":      {with("nbf", "tomorrow"), fault.Unauthenticated, "malformed"},
		"no exp":                           {with("exp", nil), fault.Unauthenticated, "required claim"},
		"exp a string":                     {with("exp", "tomorrow"), fault.Unauthenticated, "malformed"},
		"exp beyond all dates":             {with("exp", 1e300), fault.Unauthenticated, ""},
		"exp in the year 33 million":       {with("exp", int64(1e15)), fault.Unauthenticated, "expiry"},
		"exp negative":                     {with("exp", -5), fault.Unauthenticated, "expired"},
		"kid of another issuer":            {signer{"other", other.method, other.key}.sign(t, good()), fault.Unauthenticated, "key is not known"},
		"key of another issuer":            {signer{"", other.method, other.key}.sign(t, good()), fault.Unauthenticated, "signature"},
		"unknown kid":                      {signer{"nobody", ec.method, ec.key}.sign(t, good()), fault.Unauthenticated, "key is not known"},
		"kid a number":                     {header(ec, map[string]any{"kid": 7}), fault.Unauthenticated, "key id"},
		"crit":                             {header(ec, map[string]any{"crit": []string{"exp"}}), fault.Unauthenticated, "extension"},
		"a key in the header":              {header(stranger, map[string]any{"jwk": stranger.jwk(t), "jku": srv.URL}), fault.Unauthenticated, "signature"},
		"an encrypted token":               {valid + ".x.y", fault.Unauthenticated, "malformed"},
		"crit empty":                       {header(ec, map[string]any{"crit": []string{}}), fault.Unauthenticated, "extension"},
		"two dots missing":                 {strings.ReplaceAll(valid, ".", ""), fault.Unauthenticated, "malformed"},
		"one dot missing":                  {parts[0] + "." + parts[1] + parts[2], fault.Unauthenticated, "malformed"},
		"a dot too many":                   {valid + ".", fault.Unauthenticated, "malformed"},
		"not base64":                       {parts[0] + ".***." + parts[2], fault.Unauthenticated, "malformed"},
		"claims null":                      {parts[0] + "." + segment(nil) + "." + parts[2], fault.Unauthenticated, "issuer"},
		"claims a list":                    {parts[0] + "." + segment([]int{1}) + "." + parts[2], fault.Unauthenticated, "malformed"},
		"100 KB":                           {ec.sign(t, good(map[string]any{"pad": strings.Repeat("x", 100<<10)})), fault.Unauthenticated, "longer"},
		"sub a number":                     {with("sub", 7), fault.Unauthenticated, `"sub"`},
		"tenant missing":                   {with("tenant_id", nil), fault.Unauthenticated, `"tenant_id"`},
		"tenant null":                      {ec.sign(t, func() map[string]any { c := good(); c["tenant_id"] = nil; return c }()), fault.Unauthenticated, `"tenant_id"`},
		"tenant a number":                  {with("tenant_id", 7), fault.Unauthenticated, `"tenant_id"`},
		"tenant a list":                    {with("tenant_id", []string{"acme"}), fault.Unauthenticated, `"tenant_id"`},
		"tenant ../x":                      {with("tenant_id", "../x"), fault.Unauthenticated, `"tenant_id"`},
		"tenant upper case":                {with("tenant_id", "Acme"), fault.Unauthenticated, `"tenant_id"`},
		"tenant of 64 characters":          {with("tenant_id", strings.Repeat("a", 64)), fault.Unauthenticated, `"tenant_id"`},
		"tenant empty":                     {with("tenant_id", ""), fault.Unauthenticated, `"tenant_id"`},
		"organization a list":              {with("org_id", []string{"hq"}), fault.Unauthenticated, `"org_id"`},
		"organization upper case":          {with("org_id", "HQ"), fault.Unauthenticated, `"org_id"`},
		"organization a star":              {with("org_id", "*"), fault.Unauthenticated, `"org_id"`},
		"organizations a string":           {with("org_ids", "hq"), fault.Unauthenticated, `"org_ids"`},
		"organizations of numbers":         {with("org_ids", []int{1}), fault.Unauthenticated, `"org_ids"`},
		"organizations star among names":   {with("org_ids", []string{"hq", "*"}), fault.Unauthenticated, `"org_ids"`},
		"organization not allowed":         {with("org_ids", []string{"branch"}), fault.PermissionDenied, "organization"},
		"organization, none allowed":       {with("org_ids", []string{}), fault.PermissionDenied, "organization"},
		"roles a number":                   {with("roles", 1), fault.Unauthenticated, `"roles"`},
		"roles of numbers":                 {with("roles", []int{1}), fault.Unauthenticated, `"roles"`},
		"pinned issuer, another tenant":    {other.sign(t, good(pinned)), fault.PermissionDenied, "tenant"},
		"pinned issuer, bad tenant":        {other.sign(t, good(pinned, map[string]any{"tenant_id": "../x"})), fault.Unauthenticated, `"tenant_id"`},
		"pinned issuer, bad form first":    {other.sign(t, good(pinned, map[string]any{"roles": 1})), fault.Unauthenticated, `"roles"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Twice: a bad one is never remembered as good.
			for range 2 {
				env, err := v.Verify(t.Context(), c.token)
				if !errors.Is(err, c.code) || env != nil {
					t.Fatalf("got %v, %v (code %q), want code %q", env, err, fault.CodeOf(err), c.code)
				}
				if m := fault.Message(err); !strings.Contains(m, c.says) || strings.Contains(m, "../x") {
					t.Errorf("message %q, want it to say %q and to repeat nothing", m, c.says)
				}
			}
		})
	}
}

// TestTolerance holds what is good on purpose.
func TestTolerance(t *testing.T) {
	t.Parallel()
	ec := newES256(t, "ec")
	srv := newKeyServer(t, jwks(t, ec))
	v := newVerifier(t, tenant.Issuer{Issuer: "https://id.example.com", JWKSURL: srv.URL, Audiences: []string{"patchbay", "spare"}, Algorithms: []string{"ES256"}})
	for name, claims := range map[string]map[string]any{
		"expired within the skew":       {"exp": time.Now().Add(-20 * time.Second).Unix()},
		"not yet valid within the skew": {"nbf": time.Now().Add(20 * time.Second).Unix()},
		"one audience of several":       {"aud": []string{"elsewhere", "spare"}},
		"63 characters":                 {"tenant_id": strings.Repeat("a", 63)},
		"fractional exp":                {"exp": float64(time.Now().Add(time.Hour).UnixMilli()) / 1000},
	} {
		t.Run(name, func(t *testing.T) { wantCode(t, v, ec.sign(t, good(claims)), "") })
	}
	t.Run("no kid", func(t *testing.T) { wantCode(t, v, signer{"", ec.method, ec.key}.sign(t, good()), "") })
}

// TestKeyTiedToItsAlgorithm: a key published for one algorithm signs for no
// other, although the issuer may use both.
func TestKeyTiedToItsAlgorithm(t *testing.T) {
	t.Parallel()
	rs := newRS256(t, "rsa", 2048)
	jwk := rs.jwk(t)
	jwk["alg"] = "RS256"
	set, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	if err != nil {
		t.Fatal(err)
	}
	v := newVerifier(t, tenant.Issuer{Issuer: "https://id.example.com", JWKS: set, Audiences: []string{"patchbay"}, Algorithms: []string{"RS256", "PS256"}})
	wantCode(t, v, rs.sign(t, good()), "")
	wantCode(t, v, signer{"rsa", jwt.SigningMethodPS256, rs.key}.sign(t, good()), fault.Unauthenticated)
}
