package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"

	"github.com/patchbay-dev/patchbay/internal/secret"
)

// Sealed bytes are a 12-byte random nonce and what AES-256-GCM makes of the value,
// under HKDF-SHA256(key, info = purpose). The purpose is also what is authenticated:
// bytes that were sealed for one are nothing for another.

// ErrOpen is a value that the key does not open.
var ErrOpen = errors.New("sealed with another key or for another purpose, or changed")

func aead(key, purpose string) (cipher.AEAD, error) {
	k, err := hkdf.Key(sha256.New, []byte(key), nil, purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// Seal encrypts v. key is text of 128 random bits or more.
func Seal(key, purpose string, v secret.Value) ([]byte, error) {
	a, err := aead(key, purpose)
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, []byte(v.Reveal()), []byte(purpose)), nil //nolint:gosec // G407: this AEAD makes its nonces itself
}

// Open decrypts what Seal made with the same key and purpose. Errors: ErrOpen.
func Open(key, purpose string, sealed []byte) (secret.Value, error) {
	a, err := aead(key, purpose)
	if err != nil {
		return secret.Value{}, err
	}
	plain, err := a.Open(nil, nil, sealed, []byte(purpose))
	if err != nil {
		return secret.Value{}, ErrOpen
	}
	return secret.New(string(plain)), nil
}
