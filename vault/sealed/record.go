package sealed

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"io"
	"time"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/vault"
)

// A file is magic, header, nonce, ciphertext. The header is readable without
// the key and authenticated by it.
const (
	magic      = "PBSEAL1\n"
	headerSize = 3 * 8
)

// header holds a record's metadata: two times in Unix nanoseconds (deletedAt 0
// while alive) and the version of a grant (1 for bundles).
type header struct {
	writtenAt int64
	deletedAt int64
	version   int64
}

func (h header) bytes() []byte {
	b := binary.BigEndian.AppendUint64([]byte(magic), uint64(h.writtenAt))
	b = binary.BigEndian.AppendUint64(b, uint64(h.deletedAt))
	return binary.BigEndian.AppendUint64(b, uint64(h.version))
}

func stamp(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

func parseHeader(raw []byte) (header, error) {
	if len(raw) < len(magic)+headerSize || !bytes.HasPrefix(raw, []byte(magic)) {
		return header{}, errDamaged()
	}
	n := func(i int) int64 { return int64(binary.BigEndian.Uint64(raw[len(magic)+8*i:])) }
	return header{n(0), n(1), n(2)}, nil
}

// errDamaged covers a wrong key, a changed bit and a file of another place
// alike: GCM can't tell them apart. It is a fault, never a clear answer.
func errDamaged() error {
	return fault.New(fault.Unavailable, "a sealed secret can't be opened: damaged, moved, or sealed with another key")
}

// seal encrypts b. Place (tenant/connector/pin) and header are additional data:
// a file that was copied to another tenant's folder doesn't open there.
func seal(gcm cipher.AEAD, random io.Reader, place string, h header, b vault.Bundle) ([]byte, error) {
	plain, err := vault.Encode(b)
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, gcm.NonceSize())
	if _, err := io.ReadFull(random, nonce); err != nil {
		return nil, fault.New(fault.Internal, "no randomness for a nonce").WithCause(err)
	}
	head := h.bytes()
	out := append(bytes.Clone(head), nonce...)
	return gcm.Seal(out, nonce, plain.Reveal(), append(head, place...)), nil
}

func unseal(gcm cipher.AEAD, place string, raw []byte) (header, vault.Bundle, error) {
	h, err := parseHeader(raw)
	if err != nil {
		return h, vault.Bundle{}, err
	}
	n := len(magic) + headerSize
	if len(raw) < n+gcm.NonceSize() {
		return h, vault.Bundle{}, errDamaged()
	}
	aad := append(bytes.Clone(raw[:n]), place...)
	plain, err := gcm.Open(nil, raw[n:n+gcm.NonceSize()], raw[n+gcm.NonceSize():], aad)
	if err != nil {
		return h, vault.Bundle{}, errDamaged()
	}
	b, err := vault.Decode(secret.NewBody(plain))
	return h, b, err
}
