package sendgrid

import "github.com/patchbay-dev/patchbay/providers"

// The values of the param region; unset is Global.
const (
	Global = "global"
	EU     = "eu"
)

func newSchema() *providers.Schema {
	return &providers.Schema{
		Kind:        "sendgrid",
		Category:    providers.Email,
		Label:       "Twilio SendGrid",
		Icon:        "mail",
		Description: "Mail through Twilio SendGrid's Web API.",
		Docs:        "https://www.twilio.com/docs/sendgrid/api-reference",
		Status:      providers.Stable,
		AuthModes:   []providers.AuthMode{{Name: "static", Label: "API key"}},
		Egress:      providers.Egress{Hosts: []string{"api.sendgrid.com", "api.eu.sendgrid.com"}, Ports: []int{443}, TLS: "always"},
		Tests: []providers.TestLevel{
			{Level: providers.LevelReach, Label: "Check the API key"},
			{Level: providers.LevelPermission, Label: "Check that the key may send"},
			{Level: providers.LevelWrite, Label: "Submit a message in sandbox mode: it is checked and not delivered"},
		},
		Groups: []providers.Group{
			{Name: "account", Label: "Account"},
			{Name: "sender", Label: "Sender"},
		},
		Params: []providers.Param{
			{
				Name: "region", Type: providers.Enum, Group: "account", Order: 20,
				Label: "Region", Help: "Left open, it is global. Keys of an EU subuser work in the EU only.",
				DocURL:            "https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/authentication",
				AffectsConnection: true,
				Options:           []providers.Option{{Value: Global, Label: "Global"}, {Value: EU, Label: "European Union"}},
			},
			{
				Name: "from", Type: providers.EmailAddr, Group: "sender", Order: 30,
				Label: "Sender", Help: "An address, with or without a name, that is verified at SendGrid.",
				Example:  "Acme <no-reply@acme.example>",
				DocURL:   "https://www.twilio.com/docs/sendgrid/for-developers/sending-email/sender-identity",
				Validate: providers.Validation{Format: "mailbox"},
			},
		},
		Secrets: []providers.Param{
			{
				Name: "api_key", Type: providers.String, Required: true, Group: "account", Order: 10,
				Label: "API key", Help: "A key with access to Mail Send is enough.",
				DocURL:            "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys",
				AffectsConnection: true, Validate: providers.Validation{MaxLength: 512},
			},
		},
		Imports: []providers.ImportFormat{{Name: "nested", Label: "Nested or dotted keys"}},
		Version: 1,
	}
}
