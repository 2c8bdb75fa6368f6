package tenant

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/MicahParks/jwkset"
)

// algorithm is what an alg of RFC 7518 demands of a key.
type algorithm struct {
	hmac  bool
	check func(material any) bool
}

// algorithms is the whole set that can be configured; none is not in it. Each
// alg is tied to a key type and size here, so that neither a token nor a key
// set can pair an algorithm with a key that it was not made for.
var algorithms = map[string]algorithm{
	"HS256": {hmac: true, check: isSecret(32)},
	"HS384": {hmac: true, check: isSecret(48)},
	"HS512": {hmac: true, check: isSecret(64)},
	"RS256": {check: isRSA}, "RS384": {check: isRSA}, "RS512": {check: isRSA},
	"PS256": {check: isRSA}, "PS384": {check: isRSA}, "PS512": {check: isRSA},
	"ES256": {check: isCurve(elliptic.P256())},
	"ES384": {check: isCurve(elliptic.P384())},
	"ES512": {check: isCurve(elliptic.P521())},
	"EdDSA": {check: func(m any) bool { k, ok := m.(ed25519.PublicKey); return ok && len(k) == ed25519.PublicKeySize }},
}

// isSecret demands the size of the hash's output (RFC 7518, 3.2).
func isSecret(size int) func(any) bool {
	return func(m any) bool { k, ok := m.([]byte); return ok && len(k) >= size }
}

// isRSA demands 2048 bits (RFC 7518, 3.3). Above 16384 one verification takes
// long enough to be an attack by whoever controls a key set.
func isRSA(m any) bool {
	k, ok := m.(*rsa.PublicKey)
	return ok && k.N.BitLen() >= 2048 && k.N.BitLen() <= 16384 && k.E >= 3
}

func isCurve(c elliptic.Curve) func(any) bool {
	return func(m any) bool { k, ok := m.(*ecdsa.PublicKey); return ok && k.Curve == c }
}

// key is one verification key. Its identity outlives a reload that brings the
// same key again, which is what lets remembered tokens survive a refresh.
type key struct {
	kid      string
	alg      string // "" when the source does not say
	material any
	gone     atomic.Bool // set once the key has left its issuer's set
}

func (k *key) fits(alg string) bool {
	return (k.alg == "" || k.alg == alg) && algorithms[alg].check != nil && algorithms[alg].check(k.material)
}

func (k *key) same(o *key) bool {
	if k.kid != o.kid || k.alg != o.alg {
		return false
	}
	if a, ok := k.material.([]byte); ok {
		b, ok := o.material.([]byte)
		return ok && bytes.Equal(a, b)
	}
	// Every public key of the standard library has this method.
	eq, ok := k.material.(interface {
		Equal(other crypto.PublicKey) bool
	})
	return ok && eq.Equal(o.material)
}

// maxKeys bounds a set: a token without kid is tried against each fitting key.
const maxKeys = 64

// parseJWKS returns the keys of a set that fit at least one of the algorithms.
// Keys that don't (encryption keys, shared secrets, future types, RSA below
// 2048 bits) are skipped, as RFC 7517 section 5 asks, and so is a key whose
// private half lies beside it: whoever can read the set can sign with it. A set
// without a usable key is an error.
func parseJWKS(raw []byte, algs []string) ([]*key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		// The decoder's error may quote the document, which is not ours to log.
		return nil, errors.New("parse key set: not a JSON object with keys")
	}
	var keys []*key
	exposed := 0
	for _, one := range set.Keys {
		var m jwkset.JWKMarshal
		switch {
		case json.Unmarshal(one, &m) != nil:
		case m.D != "":
			exposed++
		default:
			if k := parseJWK(m, algs); k != nil {
				keys = append(keys, k)
			}
		}
	}
	if len(keys) == 0 && exposed > 0 {
		return nil, errors.New("the key set holds private keys: publish their public halves only")
	}
	return usable(keys, len(set.Keys))
}

func parseJWK(m jwkset.JWKMarshal, algs []string) *key {
	if m.USE != "" && m.USE != jwkset.UseSig {
		return nil
	}
	if len(m.KEYOPS) > 0 && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify) {
		return nil
	}
	// Certificates play no part in trust here, and x5u would make a key set
	// name further hosts; without them the library has nothing to follow.
	m.X5U, m.X5C, m.X5T, m.X5TS256 = "", nil, "", ""
	j, err := jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{})
	if err != nil {
		return nil
	}
	k := &key{kid: m.KID, alg: string(m.ALG), material: j.Key()}
	if !slices.ContainsFunc(algs, k.fits) {
		return nil
	}
	return k
}

// parsePEM reads public keys and certificates. A private key is refused, to
// tell the operator that it has no business here.
func parsePEM(raw []byte, algs []string) ([]*key, error) {
	var keys []*key
	found := 0
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		found++
		var material any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			material, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "RSA PUBLIC KEY":
			material, err = x509.ParsePKCS1PublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				material = cert.PublicKey
			}
		default:
			return nil, fmt.Errorf("parse PEM: block %d is neither a public key nor a certificate", found)
		}
		if err != nil {
			return nil, fmt.Errorf("parse PEM block %d: %w", found, err)
		}
		if k := (&key{material: material}); slices.ContainsFunc(algs, k.fits) {
			keys = append(keys, k)
		}
	}
	return usable(keys, found)
}

// parseHMAC takes the file's bytes as the secret, less one final newline.
func parseHMAC(raw []byte, algs []string) ([]*key, error) {
	raw = bytes.TrimSuffix(bytes.TrimSuffix(raw, []byte("\n")), []byte("\r"))
	k := &key{material: bytes.Clone(raw)}
	for _, alg := range algs {
		if !k.fits(alg) {
			return nil, fmt.Errorf("the shared secret is too short for %s: 32, 48 or 64 bytes for HS256, HS384, HS512", alg)
		}
	}
	return []*key{k}, nil
}

func usable(keys []*key, found int) ([]*key, error) {
	switch {
	case len(keys) == 0:
		return nil, fmt.Errorf("none of %d keys fits the configured algorithms", found)
	case len(keys) > maxKeys:
		return nil, fmt.Errorf("more than %d keys", maxKeys)
	}
	return keys, nil
}
