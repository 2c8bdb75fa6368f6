package google

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// serviceAccountFields are the keys of a service account's key file
// (https://developers.google.com/identity/protocols/oauth2/service-account).
var serviceAccountFields = map[string]bool{
	"type": true, "project_id": true, "private_key_id": true, "private_key": true, "client_email": true,
	"client_id": true, "auth_uri": true, "token_uri": true, "auth_provider_x509_cert_url": true,
	"client_x509_cert_url": true, "universe_domain": true,
}

// ServiceAccount is what we take from a service account's key file.
type ServiceAccount struct {
	Email string
	KeyID string
	Key   secret.Value // PEM
	// Elsewhere says that the file names a token address that is not Google's. It
	// is not used: see [TokenURL].
	Elsewhere bool
}

// AccountError says what is wrong with a key file: as a test's finding, and as
// the rest of a sentence ("is cut off") that repeats nothing of the file.
type AccountError struct {
	Code    providers.TestCode
	Message string
}

func (e *AccountError) Error() string { return "the service account's key file " + e.Message }

// Outcome is the error as the outcome of a test's step.
func (e *AccountError) Outcome() providers.Outcome {
	return providers.Failed(e.Code, "The service account's key file "+e.Message+".")
}

// Fault is the error as a problem of the secret that holds the file.
func (e *AccountError) Fault(name string) error {
	return fault.New(fault.InvalidArgument, "the service account's key file can't be used").WithViolations(
		fault.Violation{Pointer: "/secrets/" + name, Code: "wrong_file", Message: e.Message})
}

// ReadServiceAccount reads a key file. The private key is not checked yet: see
// [ServiceAccount.CheckKey].
func ReadServiceAccount(file secret.Value) (ServiceAccount, *AccountError) {
	if !file.IsSet() {
		return ServiceAccount{}, &AccountError{providers.CodeConfigIncomplete, "is missing"}
	}
	var f struct {
		Type     string `json:"type"`
		Email    string `json:"client_email"`
		KeyID    string `json:"private_key_id"`
		Key      string `json:"private_key"`
		TokenURI string `json:"token_uri"`
	}
	text := file.Reveal()
	if json.Unmarshal([]byte(text), &f) != nil {
		return ServiceAccount{}, &AccountError{providers.CodeConfigIncomplete,
			"is not a whole key file: it is cut off or not JSON"}
	}
	if f.Type != "service_account" {
		var m map[string]any
		_ = json.Unmarshal([]byte(text), &m) // it was read as an object above
		if what := foreign(m); what != "" {
			return ServiceAccount{}, &AccountError{providers.CodeWrongProduct, "is " + what + ", not a service account's key"}
		}
		return ServiceAccount{}, &AccountError{providers.CodeWrongProduct, "is not the key file of a service account"}
	}
	if f.Email == "" || f.Key == "" {
		return ServiceAccount{}, &AccountError{providers.CodeConfigIncomplete, "lacks client_email or private_key"}
	}
	if block, _ := pem.Decode([]byte(f.Key)); block == nil {
		return ServiceAccount{}, &AccountError{providers.CodeConfigIncomplete,
			"has a private_key that is not PEM: its line breaks may have been changed on the way"}
	}
	return ServiceAccount{
		Email: f.Email, KeyID: f.KeyID, Key: secret.New(f.Key),
		Elsewhere: f.TokenURI != "" && !strings.HasPrefix(f.TokenURI, oauthHost+"/") &&
			// Files from before 2018 name the older address of the same service.
			!strings.HasPrefix(f.TokenURI, accountsHost+"/"),
	}, nil
}

// CheckKey parses the private key, which takes milliseconds: for tests, not for
// every answer.
func (a ServiceAccount) CheckKey() *AccountError {
	if _, err := parseKey(a.Key); err != nil {
		return &AccountError{providers.CodeConfigIncomplete, "has a damaged private_key"}
	}
	return nil
}

func parseKey(v secret.Value) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(v.Reveal()))
	if block == nil {
		return nil, errors.New("no PEM")
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	if key, ok := key.(*rsa.PrivateKey); ok {
		return key, nil
	}
	return nil, errors.New("no RSA key")
}
