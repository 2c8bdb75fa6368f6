package vault_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/vault"
)

// signer makes ES256 tokens (RFC 7515).
type signer struct{ key *ecdsa.PrivateKey }

func newSigner(t *testing.T) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return signer{key}
}

func (s signer) pem(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&s.key.PublicKey)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func (s signer) token(t *testing.T, claims object) string {
	t.Helper()
	part := func(v any) string {
		raw, err := json.Marshal(v)
		must(t, err)
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	text := part(object{"alg": "ES256", "typ": "JWT"}) + "." + part(claims)
	sum := sha256.Sum256([]byte(text))
	r, sv, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	must(t, err)
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	sv.FillBytes(sig[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(sig)
}

func TestJWTAuthWithABoundAudience(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount, key, dir := s.kv(t), newSigner(t), t.TempDir()
	auth := name(t, "jwt")
	s.admin(t, "POST", "sys/auth/"+auth, object{"type": "jwt"})
	s.admin(t, "POST", "auth/"+auth+"/config", object{"jwt_validation_pubkeys": []string{key.pem(t)}})
	s.admin(t, "POST", "auth/"+auth+"/role/sidecar", object{
		"role_type": "jwt", "bound_audiences": []string{"vault.patchbay"}, "user_claim": "sub",
		"token_policies": s.policy(t, mount, "pb/"), "token_ttl": "1h",
	})
	claims := func(aud string) object {
		return object{"sub": "sidecar", "aud": aud, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	}
	jwt := file(t, dir, "jwt", key.token(t, claims("somebody-else")))
	c := openClient(t, s, mount, vault.Auth{Method: vault.AuthJWT, MountPath: auth, Role: "sidecar", JWTFile: jwt})
	eventually(t, "the wrong audience is refused", func() bool { return c.Status().LastError == "Vault refuses the login" })
	if c.Ready(t.Context()) == nil {
		t.Fatal("ready with a token for another audience")
	}
	file(t, dir, "jwt", key.token(t, claims("vault.patchbay")))
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	readable(t, c, ref)
}

func TestKubernetesAuth(t *testing.T) {
	t.Parallel()
	s := sharedServer(t)
	mount, key := s.kv(t), newSigner(t)
	account := key.token(t, object{
		"iss": "https://kubernetes.default.svc", "sub": "system:serviceaccount:apps:sidecar", "aud": []string{"vault"},
		"exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"kubernetes.io": object{"namespace": "apps", "serviceaccount": object{"name": "sidecar", "uid": "u-1"}},
	})
	// The Kubernetes side only: an API server that knows one service account. Its
	// certificate is checked, as that of a cluster is.
	var reviews atomic.Int64
	api := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct{ Token string }
		}
		if !strings.HasSuffix(r.URL.Path, "/tokenreviews") || json.NewDecoder(r.Body).Decode(&review) != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		reviews.Add(1)
		status := object{"authenticated": review.Spec.Token == account}
		if review.Spec.Token == account {
			status["audiences"] = []string{"vault"}
			status["user"] = object{"username": "system:serviceaccount:apps:sidecar", "uid": "u-1", "groups": []string{"system:serviceaccounts"}}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(object{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status})
	}))
	t.Cleanup(api.Close)
	auth := name(t, "kubernetes")
	s.admin(t, "POST", "sys/auth/"+auth, object{"type": "kubernetes"})
	s.admin(t, "POST", "auth/"+auth+"/config", object{
		"kubernetes_host": api.URL, "kubernetes_ca_cert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw})),
		"disable_local_ca_jwt": true, "token_reviewer_jwt": account,
	})
	s.admin(t, "POST", "auth/"+auth+"/role/sidecar", object{
		"bound_service_account_names": []string{"sidecar"}, "bound_service_account_namespaces": []string{"apps"},
		"audience": "vault", "token_policies": s.policy(t, mount, "pb/"), "token_ttl": "1h",
	})
	c := openClient(t, s, mount, vault.Auth{
		Method: vault.AuthKubernetes, MountPath: auth, Role: "sidecar", JWTFile: file(t, t.TempDir(), "sa", account),
	})
	ready(t, c)
	ref := someRef("acme")
	put(t, c, ref)
	readable(t, c, ref)
	if reviews.Load() == 0 {
		t.Fatal("the service account was not reviewed")
	}
}
