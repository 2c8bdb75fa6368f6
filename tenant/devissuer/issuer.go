package devissuer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

const (
	// Name is the iss of every token.
	Name = "patchbay-dev"
	// Audience is the aud of every token.
	Audience = "patchbay"
	// KeyFile is the key's file name in the data directory.
	KeyFile = "jwt-issuer.pem"
	// DefaultTTL is the life of a token that asks for none.
	DefaultTTL = time.Hour
)

// Claims are what a token says.
type Claims struct {
	Tenant        string        // required
	Organization  string        // "" leaves the claim out
	Organizations []string      // nil leaves the claim out; {"*"} allows all
	Roles         []string      // nil leaves the claim out
	Subject       string        // "" leaves the claim out
	TTL           time.Duration // 0 is DefaultTTL
}

// Issuer signs tokens with one ES256 key. It is safe for concurrent use.
type Issuer struct {
	key   *ecdsa.PrivateKey
	kid   string
	jwks  []byte
	clock func() time.Time
}

// Open reads the key of a data directory, and creates it (mode 0600) when
// there is none. Two processes that open a new directory at once agree on one
// key. The directory must exist.
// Errors: fault.InvalidArgument for a file that is no ES256 key; others are
// the file system's.
func Open(dir string) (*Issuer, error) {
	path := filepath.Join(dir, KeyFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(dir, path); err != nil {
			return nil, fmt.Errorf("create the dev issuer's key: %w", err)
		}
		raw, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read the dev issuer's key: %w", err)
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, fault.Newf(fault.InvalidArgument, "%s in the data directory is not a PEM file", KeyFile)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fault.Newf(fault.InvalidArgument, "%s in the data directory is not a private key", KeyFile).WithCause(err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fault.Newf(fault.InvalidArgument, "%s in the data directory is not an ES256 key", KeyFile)
	}
	return fromKey(key, time.Now)
}

// Generate makes an issuer that lives in memory only. A nil clock is time.Now.
func Generate(clock func() time.Time) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate a key: %w", err)
	}
	if clock == nil {
		clock = time.Now
	}
	return fromKey(key, clock)
}

// create writes a new key under a name of its own and links it into place:
// the link fails where another process was first, so no reader ever sees half
// a key and no key that already signed a token is replaced.
func create(dir, path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, KeyFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // best effort: a leftover does no harm
	if err := pem.Encode(tmp, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

func fromKey(key *ecdsa.PrivateKey, clock func() time.Time) (*Issuer, error) {
	point, err := key.PublicKey.Bytes() // 0x04, then x and y of 32 bytes each
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	x, y := enc(point[1:33]), enc(point[33:])
	// RFC 7638: the thumbprint is over exactly these members in this order.
	thumb := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + x + `","y":"` + y + `"}`))
	i := &Issuer{key: key, kid: enc(thumb[:]), clock: clock}
	i.jwks, err = json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": i.kid, "x": x, "y": y,
	}}})
	return i, err
}

// JWKS is the public key as a JSON Web Key Set.
func (i *Issuer) JWKS() []byte { return slices.Clone(i.jwks) }

// VerifierIssuer is the configuration that verifies this issuer's tokens
// without network or file. Its roles are permission names.
func (i *Issuer) VerifierIssuer() tenant.Issuer {
	return tenant.Issuer{
		Issuer: Name, JWKS: i.JWKS(), Audiences: []string{Audience}, Algorithms: []string{"ES256"},
		RoleMap: map[string][]tenant.Permission{},
	}
}

// Mint signs a token.
// Errors: fault.InvalidArgument for ids that no Verifier would accept and for
// a negative TTL.
func (i *Issuer) Mint(c Claims) (string, error) {
	if err := c.validate(); err != nil {
		return "", err
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	now := i.clock()
	claims := map[string]any{
		"iss": Name, "aud": Audience, "tenant_id": c.Tenant,
		"iat": now.Unix(), "exp": now.Add(c.TTL).Unix(),
	}
	if c.Organization != "" {
		claims["org_id"] = c.Organization
	}
	if c.Organizations != nil {
		claims["org_ids"] = c.Organizations
	}
	if c.Roles != nil {
		claims["roles"] = c.Roles
	}
	if c.Subject != "" {
		claims["sub"] = c.Subject
	}
	return i.Sign(claims)
}

// Sign signs any claims, bad ones too: tests need them.
func (i *Issuer) Sign(claims map[string]any) (string, error) {
	t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims(claims))
	t.Header["kid"] = i.kid
	signed, err := t.SignedString(i.key)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed, nil
}

func (c Claims) validate() error {
	if _, err := tenant.ParseID(c.Tenant); err != nil {
		return fault.Newf(fault.InvalidArgument, "the tenant is not valid: %s", fault.Message(err))
	}
	if c.Organization != "" {
		if _, err := tenant.ParseOrganizationID(c.Organization); err != nil {
			return fault.Newf(fault.InvalidArgument, "the organization is not valid: %s", fault.Message(err))
		}
	}
	if !slices.Equal(c.Organizations, []string{"*"}) {
		for _, o := range c.Organizations {
			if _, err := tenant.ParseOrganizationID(o); err != nil {
				return fault.Newf(fault.InvalidArgument, "an allowed organization is not valid: %s", fault.Message(err))
			}
		}
	}
	if c.TTL < 0 {
		return fault.New(fault.InvalidArgument, "the token's life must not be negative")
	}
	return nil
}
