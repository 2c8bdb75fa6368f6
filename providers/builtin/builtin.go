package builtin

import (
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/s3"
	"github.com/patchbay-dev/patchbay/providers/builtin/smtp"
)

// Providers returns the built-in providers, by kind.
func Providers() []providers.Provider {
	return []providers.Provider{
		s3.New(),
		smtp.New(),
	}
}

// Registry returns the built-in kinds together with those that the program's
// packages gave to providers.Register. Errors: see providers.NewRegistry; a
// custom kind may not take a built-in one's name.
func Registry() (*providers.Registry, error) {
	return providers.NewRegistry(append(Providers(), providers.Registered()...)...)
}
