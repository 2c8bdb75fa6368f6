package builtin

import (
	"slices"
	"sync"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/gdrive"
	"github.com/patchbay-dev/patchbay/providers/builtin/gmail"
	httpapi "github.com/patchbay-dev/patchbay/providers/builtin/http_api"
	"github.com/patchbay-dev/patchbay/providers/builtin/mailgun"
	graphmail "github.com/patchbay-dev/patchbay/providers/builtin/microsoft_graph_mail"
	"github.com/patchbay-dev/patchbay/providers/builtin/postmark"
	"github.com/patchbay-dev/patchbay/providers/builtin/s3"
	"github.com/patchbay-dev/patchbay/providers/builtin/sendgrid"
	"github.com/patchbay-dev/patchbay/providers/builtin/slack"
	"github.com/patchbay-dev/patchbay/providers/builtin/smtp"
	"github.com/patchbay-dev/patchbay/providers/builtin/twilio"
	"github.com/patchbay-dev/patchbay/providers/builtin/webhook"
)

// Providers returns the built-in providers, by kind. The slice is the caller's; the
// providers are the same each time, and unbound: Bind returns others.
func Providers() []providers.Provider { return slices.Clone(all()) }

// all makes them once per process: half of them are files that have to be read and
// checked, which takes milliseconds, and a command asks twice.
var all = sync.OnceValue(func() []providers.Provider {
	return []providers.Provider{
		gmail.New(),
		gdrive.New(),
		httpapi.New(),
		mailgun.New(),
		graphmail.New(),
		postmark.New(),
		s3.New(),
		sendgrid.New(),
		slack.New(),
		smtp.New(),
		twilio.New(),
		webhook.New(),
	}
})

// Registry returns the built-in kinds together with those that the program's
// packages gave to providers.Register, and more (declared ones). Nothing is
// bound yet: see [providers.Registry.Bind]. Errors: see providers.NewRegistry; a
// custom kind may not take a built-in one's name.
func Registry(more ...providers.Provider) (*providers.Registry, error) {
	return providers.NewRegistry(slices.Concat(all(), providers.Registered(), more)...)
}
