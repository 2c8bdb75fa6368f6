package smtp

import "github.com/patchbay-dev/patchbay/providers"

func newSchema() *providers.Schema {
	return &providers.Schema{
		Kind:        "smtp",
		Category:    providers.Email,
		Label:       "SMTP server",
		Icon:        "mail",
		Description: "Mail through a submission server or relay of your own.",
		Docs:        "https://www.rfc-editor.org/rfc/rfc6409",
		Status:      providers.Stable,
		AuthModes: []providers.AuthMode{
			{Name: "none", Label: "No authentication", When: &providers.Condition{Field: "auth", Eq: "none"}},
			{Name: "password", Label: "User name and password",
				When: &providers.Condition{Not: &providers.Condition{Field: "auth", Eq: "none"}}},
		},
		Egress: providers.Egress{
			FromParams: []string{"host"}, Ports: []int{25, submissionsPort, submissionPort, 2525}, TLS: "starttls",
		},
		Tests: []providers.TestLevel{
			{Level: providers.LevelReach, Label: "Connect, encrypt and log in"},
			{Level: providers.LevelPermission, Label: "Ask whether sender and recipient are accepted"},
			{Level: providers.LevelWrite, Label: "Send a test mail", SideEffects: true},
		},
		Groups: []providers.Group{
			{Name: "server", Label: "Server"},
			{Name: "credentials", Label: "Credentials"},
			{Name: "sender", Label: "Sender"},
		},
		Params: []providers.Param{
			{
				Name: "host", Type: providers.Host, Required: true, Group: "server", Order: 10,
				Label: "Host", Example: "smtp.example.com", AffectsConnection: true,
				BindsSecrets: []string{"password"},
			},
			{
				Name: "port", Type: providers.Port, Default: int64(submissionPort), Group: "server", Order: 20,
				Label: "Port", Help: "587 for STARTTLS, 465 for TLS from the start.", AffectsConnection: true,
				// Another port of the host is another server, and maybe another's.
				BindsSecrets: []string{"password"},
			},
			{
				Name: "tls", Type: providers.Enum, Group: "server", Order: 30,
				Label: "Encryption", Help: "Left open, port 465 means TLS from the start and any other STARTTLS.",
				// Without encryption whoever is on the way reads the password.
				AffectsConnection: true, BindsSecrets: []string{"password"},
				Options: []providers.Option{
					{Value: STARTTLS, Label: "STARTTLS"},
					{Value: Implicit, Label: "TLS from the start"},
					{Value: None, Label: "None", Warning: "Mail and password travel in clear."},
				},
			},
			{
				Name: "auth", Type: providers.Enum, Default: "auto", Group: "credentials", Order: 40, Advanced: true,
				Label: "Authentication", Help: "Automatic takes the strongest that the server offers.",
				AffectsConnection: true,
				// SASL mechanism names (RFC 4422) in lower case.
				Options: []providers.Option{
					{Value: "auto", Label: "Automatic"},
					{Value: "plain", Label: "PLAIN"},
					{Value: "login", Label: "LOGIN"},
					{Value: "cram-md5", Label: "CRAM-MD5", Warning: "Outdated: use it only where nothing else is offered."},
					{Value: "scram-sha-1", Label: "SCRAM-SHA-1"},
					{Value: "scram-sha-256", Label: "SCRAM-SHA-256"},
					{Value: "xoauth2", Label: "XOAUTH2", Warning: "The password is then an access token, which ends."},
					{Value: "none", Label: "None"},
				},
			},
			{
				Name: "username", Type: providers.String, Group: "credentials", Order: 50,
				Label: "User name", Example: "mailer@acme.example", AffectsConnection: true, Validate: providers.Validation{MaxLength: 320},
			},
			{
				Name: "from", Type: providers.EmailAddr, Group: "sender", Order: 70,
				Label: "Sender", Help: "An address, with or without a name.", Example: "Acme <no-reply@acme.example>",
				Validate: providers.Validation{Format: "mailbox"},
			},
			{
				Name: "helo", Type: providers.Host, Group: "sender", Order: 80, Advanced: true,
				Label: "EHLO name", Help: "The host name that we introduce ourselves with.", AffectsConnection: true,
			},
		},
		Secrets: []providers.Param{
			{
				Name: "password", Type: providers.String, Group: "credentials", Order: 60,
				Label: "Password", AffectsConnection: true,
			},
		},
		Imports: []providers.ImportFormat{{Name: "nested", Label: "Nested or dotted keys"}},
		Version: 1,
	}
}
