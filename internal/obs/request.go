package obs

import (
	"crypto/rand"
	"encoding/base32"
)

// NewRequestID returns 80 random bits as 16 lower-case characters. It is for
// people to quote, not a capability.
func NewRequestID() string {
	var b [10]byte
	_, _ = rand.Read(b[:]) // never fails; the runtime aborts first
	return base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").EncodeToString(b[:])
}
