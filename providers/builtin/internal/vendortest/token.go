package vendortest

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"sync"
	"testing"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// AccessToken is what Tokens gives.
const AccessToken = "ya29.canary-access-token"

// Tokens is a source of one token with these granted scopes; without any the
// issuer didn't say. The token ends at a fixed time, which tests compare.
func Tokens(scopes ...string) providers.TokenSource { return source{scopes: scopes} }

// Expiry is when the token of Tokens ends.
func Expiry() time.Time { return time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC) }

// NoTokens is a source that fails with this code.
func NoTokens(code providers.TestCode) providers.TokenSource {
	return source{err: &providers.TokenError{Code: code, Err: fault.New(fault.Unavailable, "no token")}}
}

type source struct {
	scopes []string
	err    *providers.TokenError
}

func (s source) Token(context.Context) (providers.Token, error) {
	if s.err != nil {
		return providers.Token{}, s.err
	}
	return providers.Token{
		Access: secret.New(AccessToken), Type: "Bearer", Scopes: s.scopes,
		ExpiresAt: Expiry(), RefreshAt: Expiry().Add(-10 * time.Minute),
	}, nil
}

// TokenTraps are the ways in which there is no token, each found by the step
// "token" with the code that the source gives.
func TokenTraps(doc string, bind func() (providers.Provider, providers.Input)) []providertest.Trap {
	var traps []providertest.Trap
	for _, t := range []struct {
		name string
		code providers.TestCode
	}{
		{"a consent that has ended (invalid_grant)", providers.CodeNeedsReauthorization},
		{"a wrong client secret (invalid_client)", providers.CodeOAuthClientInvalid},
		{"a token request that is refused", providers.CodeOAuthRefused},
		{"a token endpoint that is down", providers.CodeTokenEndpointDown},
		{"a consent that can't be read from the store", providers.CodeStorageDown},
		{"a token endpoint that never answers", providers.CodeTimeout},
	} {
		traps = append(traps, providertest.Trap{
			Name: t.name, Doc: doc, Step: "token", Status: providers.StepFail, Code: t.code, Tokens: NoTokens(t.code),
			Make: func(*testing.T) (providers.Provider, providers.Input) { return bind() },
		})
	}
	return traps
}

// quiet keeps the complaints of a server whose certificate is refused out of the
// test's output.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// AccountEmail is the address of the service account.
const AccountEmail = "files@acme.iam.gserviceaccount.com"

// ServiceAccount makes a service account's key file, in the form that Google's
// console downloads
// (https://developers.google.com/identity/protocols/oauth2/service-account), and
// returns its private key too.
func ServiceAccount(t testing.TB) (file string, key secret.Value) {
	t.Helper()
	text := rsaKey()
	b, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "acme", "private_key_id": "canary-key-id", "private_key": text,
		"client_email": AccountEmail, "client_id": "104200000000000000000",
		"auth_uri": "https://accounts.google.com/o/oauth2/auth", "token_uri": "https://oauth2.googleapis.com/token",
		"auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
		"client_x509_cert_url":        "https://www.googleapis.com/robot/v1/metadata/x509/files%40acme.iam.gserviceaccount.com",
		"universe_domain":             "googleapis.com",
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(b), secret.New(text)
}

// rsaKey is one key for all tests of a package: making one takes long.
var rsaKey = sync.OnceValue(func() string {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
})
