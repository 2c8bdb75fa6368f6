package vault

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/secret"
)

// ImportDigest is what Bundle.Imported holds for a value: hex of
// HMAC-SHA256(connector id || 0 || name, value). Keyed, so that equal secrets of
// two connectors do not show as equal.
func ImportDigest(id connector.ID, name string, v secret.Value) string {
	mac := hmac.New(sha256.New, []byte(id.String()+"\x00"+name))
	mac.Write([]byte(v.Reveal()))
	return hex.EncodeToString(mac.Sum(nil))
}
