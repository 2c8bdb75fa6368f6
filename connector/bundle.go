package connector

import "github.com/patchbay-dev/patchbay/internal/secret"

// Bundle is all secrets of a connector at one moment: what lies under one pin.
type Bundle struct {
	Values secret.Map
	// Imported holds, per secret name, a keyed digest of the value that the last
	// data-file import brought. It lives here because a digest of a weak secret
	// must not be in the database either.
	Imported map[string]string
}
