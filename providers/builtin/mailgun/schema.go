package mailgun

import "github.com/patchbay-dev/patchbay/providers"

// The values of the param region; unset is US.
const (
	US = "us"
	EU = "eu"
)

// The values of the param key_type; unset is Account.
const (
	Account = "account"
	Sending = "sending"
)

func newSchema() *providers.Schema {
	return &providers.Schema{
		Kind:        "mailgun",
		Category:    providers.Email,
		Label:       "Mailgun",
		Icon:        "mail",
		Description: "Mail through Mailgun's API, for one sending domain.",
		Docs:        "https://documentation.mailgun.com/docs/mailgun/api-reference",
		Status:      providers.Stable,
		AuthModes:   []providers.AuthMode{{Name: "static", Label: "API key"}},
		Egress:      providers.Egress{Hosts: []string{"api.mailgun.net", "api.eu.mailgun.net"}, Ports: []int{443}, TLS: "always"},
		Tests: []providers.TestLevel{
			{Level: providers.LevelReach, Label: "Check the key and the domain"},
			{Level: providers.LevelPermission, Label: "Check that the domain is active"},
			{Level: providers.LevelWrite, Label: "Submit a message in test mode: accepted, charged and not delivered", SideEffects: true},
		},
		Groups: []providers.Group{
			{Name: "account", Label: "Account"},
			{Name: "sender", Label: "Sender"},
		},
		Params: []providers.Param{
			{
				Name: "domain", Type: providers.Host, Required: true, Group: "account", Order: 10,
				Label: "Sending domain", Help: "As it is listed at Mailgun.", Example: "mg.acme.example",
				AffectsConnection: true, Validate: providers.Validation{Format: "hostname"},
			},
			{
				Name: "region", Type: providers.Enum, Group: "account", Order: 20,
				Label: "Region", Help: "Where the domain was created. Left open, it is the US.", AffectsConnection: true,
				DocURL:  "https://documentation.mailgun.com/docs/mailgun/api-reference",
				Options: []providers.Option{{Value: US, Label: "United States"}, {Value: EU, Label: "European Union"}},
			},
			{
				Name: "key_type", Type: providers.Enum, Group: "account", Order: 40,
				Label: "Kind of key", Help: "A domain's sending key can send and nothing else. Left open, it is the account's key.",
				DocURL:            "https://documentation.mailgun.com/docs/mailgun/api-reference/authentication",
				AffectsConnection: true,
				Options:           []providers.Option{{Value: Account, Label: "Account"}, {Value: Sending, Label: "Domain sending key"}},
			},
			{
				Name: "from", Type: providers.EmailAddr, Group: "sender", Order: 50,
				Label: "Sender", Help: "An address, with or without a name, best of the sending domain.",
				Example: "Acme <no-reply@mg.acme.example>", Validate: providers.Validation{Format: "mailbox"},
			},
		},
		Secrets: []providers.Param{
			{
				Name: "api_key", Type: providers.String, Required: true, Group: "account", Order: 30,
				Label: "API key", DocURL: "https://documentation.mailgun.com/docs/mailgun/api-reference/authentication",
				AffectsConnection: true, Validate: providers.Validation{MaxLength: 512},
			},
		},
		Imports: []providers.ImportFormat{{Name: "nested", Label: "Nested or dotted keys"}},
		Version: 1,
	}
}
