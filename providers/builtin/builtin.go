package builtin

import (
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/gdrive"
	"github.com/patchbay-dev/patchbay/providers/builtin/gmail"
	"github.com/patchbay-dev/patchbay/providers/builtin/mailgun"
	"github.com/patchbay-dev/patchbay/providers/builtin/s3"
	"github.com/patchbay-dev/patchbay/providers/builtin/sendgrid"
	"github.com/patchbay-dev/patchbay/providers/builtin/smtp"
)

// Providers returns the built-in providers, by kind.
func Providers() []providers.Provider {
	return []providers.Provider{
		gmail.New(),
		gdrive.New(),
		mailgun.New(),
		s3.New(),
		sendgrid.New(),
		smtp.New(),
	}
}

// Registry returns the built-in kinds together with those that the program's
// packages gave to providers.Register, and more (declared ones). Nothing is
// bound yet: see [providers.Registry.Bind]. Errors: see providers.NewRegistry; a
// custom kind may not take a built-in one's name.
func Registry(more ...providers.Provider) (*providers.Registry, error) {
	all := append(Providers(), providers.Registered()...)
	return providers.NewRegistry(append(all, more...)...)
}
