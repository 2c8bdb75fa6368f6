package seal_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"testing"

	"github.com/patchbay-dev/patchbay/connector/internal/seal"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

func TestSeal(t *testing.T) {
	t.Parallel()
	key, canary := rand.Text(), "canary-verifier"
	sealed, err := seal.Seal(key, "verifier", secret.New(canary))
	if err != nil || bytes.Contains(sealed, []byte(canary)) {
		t.Fatalf("%q %v", sealed, err)
	}
	if v, err := seal.Open(key, "verifier", sealed); err != nil || !v.Equal(secret.New(canary)) {
		t.Errorf("came back as another: %v", err)
	}
	again, err := seal.Seal(key, "verifier", secret.New(canary))
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("equal values show as equal: %v", err)
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-1] ^= 1
	for what, open := range map[string]func() (secret.Value, error){
		"another key":     func() (secret.Value, error) { return seal.Open(rand.Text(), "verifier", sealed) },
		"another purpose": func() (secret.Value, error) { return seal.Open(key, "code", sealed) },
		"changed":         func() (secret.Value, error) { return seal.Open(key, "verifier", changed) },
		"nothing":         func() (secret.Value, error) { return seal.Open(key, "verifier", nil) },
	} {
		if v, err := open(); !errors.Is(err, seal.ErrOpen) || v.IsSet() {
			t.Errorf("%s: %v", what, err)
		}
	}
}
