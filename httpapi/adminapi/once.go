package adminapi

import (
	"crypto/hmac"
	"crypto/sha256"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// An idempotency key is as long as random text is that nobody guesses: the digest
// of its request is Keyed by it.
const (
	minKey = 16
	maxKey = 255
)

// once is the request's Idempotency-Key with a digest of what is asked under it;
// nil without one. The digest covers a body that may hold a secret and is stored,
// so it is an HMAC whose key, the client's own, is stored only as a hash.
// Errors: fault.InvalidArgument.
func (k *call) once(body []byte) (*connector.RequestKey, error) {
	given := k.c.Request().Header.PeekAll(headerKey)
	if len(given) == 0 {
		return nil, nil
	}
	bad := fault.Violation{Pointer: "/header/" + headerKey, Code: "format", Message: "must be one random text of 16 to 255 visible characters"}
	key := string(given[0])
	if len(given) > 1 || len(key) < minKey || len(key) > maxKey {
		return nil, problems([]fault.Violation{bad})
	}
	for _, r := range key {
		if r <= ' ' || r > '~' {
			return nil, problems([]fault.Violation{bad})
		}
	}
	mac := hmac.New(sha256.New, []byte(key))
	for _, part := range []string{k.op.OperationID, k.c.OriginalURL(), string(body)} {
		mac.Write([]byte(part))
		mac.Write([]byte{0})
	}
	out := &connector.RequestKey{Key: key}
	mac.Sum(out.Digest[:0])
	return out, nil
}
