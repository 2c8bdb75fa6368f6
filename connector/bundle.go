package connector

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// Bundle is all secrets of a connector at one moment: what lies under one pin.
type Bundle struct {
	Values secret.Map
	// Imported holds, per secret name, a keyed digest of the value that the last
	// data-file import brought; see [Bundle.Remember]. It lives here because a
	// digest of a weak secret must not be in the database either.
	Imported map[string]string
}

// digestOf is hex of HMAC-SHA256(connector id || 0 || name, value). Keyed, so that
// equal secrets of two connectors do not show as equal.
func digestOf(id ID, name string, v secret.Value) string {
	mac := hmac.New(sha256.New, []byte(id.String()+"\x00"+name))
	mac.Write([]byte(v.Reveal()))
	return hex.EncodeToString(mac.Sum(nil))
}

// Remember notes that an import brought v for a secret of the connector id.
func (b *Bundle) Remember(id ID, name string, v secret.Value) {
	if b.Imported == nil {
		b.Imported = map[string]string{}
	}
	b.Imported[name] = digestOf(id, name, v)
}

// Brought tells whether v is what the last import brought for a secret.
func (b *Bundle) Brought(id ID, name string, v secret.Value) bool {
	digest, ok := b.Imported[name]
	if !ok {
		return false
	}
	if keyed, rest, renamed := strings.Cut(digest, renamedFrom); renamed {
		name, digest = keyed, rest
	}
	return digestOf(id, name, v) == digest
}

// renamedFrom stands between the name that a digest is keyed by and the digest,
// where the secret has another name by now: of a value that is gone there is no
// digest to be had under the new one.
const renamedFrom = ":"

// rename gives secrets other names, and what is remembered of them; false: there
// is nothing of them here.
func (b *Bundle) rename(names map[string]string) bool {
	for from := range names {
		if digest, ok := b.Imported[from]; ok && !strings.Contains(digest, renamedFrom) {
			b.Imported[from] = from + renamedFrom + digest
		}
	}
	held, imported := providers.Rename(b.Values, names), providers.Rename(b.Imported, names)
	return held || imported
}
