package vault

import (
	"strings"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// grantSegment is where a connector's grant lives, beside its bundles. It can
// not be a pin: a ULID has 26 characters and is upper case.
const grantSegment = "grant"

// CheckPath reports whether p is a usable mount or prefix: segments of letters,
// digits, '-', '_' and '.', joined by single slashes, none of them "." or "..".
// An empty prefix is allowed, an empty mount is the caller's to refuse.
// Errors: fault.InvalidArgument.
func CheckPath(p string) error {
	if p == "" {
		return nil
	}
	for seg := range strings.SplitSeq(p, "/") {
		if seg == "" || strings.Trim(seg, ".") == "" {
			return fault.New(fault.InvalidArgument, "a mount or prefix has no empty, '.' or '..' segment and no outer slash")
		}
		for i := range len(seg) {
			c := seg[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
				return fault.New(fault.InvalidArgument, "a mount or prefix consists of letters, digits, '-', '_', '.' and '/'")
			}
		}
	}
	return nil
}

// BundlePath is where ref's bundle lives: <base>/<tenant>/<connector>/<pin>.
// Base is whatever stands before the tenant: a KV v2 API path or a folder.
// Errors: fault.InvalidArgument when a part of ref is missing.
func BundlePath(base string, ref connector.SecretRef) (string, error) {
	return under(base, ref.Tenant, ref.Connector.String(), ref.Pin.String())
}

// GrantPath is where a connector's grant lives: <base>/<tenant>/<connector>/grant.
func GrantPath(base string, t tenant.ID, id connector.ID) (string, error) {
	return under(base, t, id.String(), grantSegment)
}

// ConnectorPath is the folder of a connector's bundles.
func ConnectorPath(base string, t tenant.ID, id connector.ID) (string, error) {
	return under(base, t, id.String())
}

// TenantPath is the folder of a tenant's connectors.
func TenantPath(base string, t tenant.ID) (string, error) { return under(base, t) }

// under is the one place that spells a path. It trusts no type to have been
// parsed: a zero id, a separator or a dot segment in any part is refused, so
// that the result always lies below <base>/<tenant>/ with nothing left to
// normalise. Vault's own router cleans paths; "acme/../globex" must not reach it.
func under(base string, t tenant.ID, rest ...string) (string, error) {
	if err := CheckPath(base); err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(base)
	for i := -1; i < len(rest); i++ {
		seg := t.String()
		if i >= 0 {
			seg = rest[i]
		}
		if seg == "" {
			return "", fault.New(fault.InvalidArgument, "a secret's reference names tenant, connector and pin")
		}
		if strings.ContainsRune(seg, '/') || CheckPath(seg) != nil {
			return "", fault.New(fault.InvalidArgument, "a secret's reference leaves its tenant")
		}
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(seg)
	}
	return b.String(), nil
}
