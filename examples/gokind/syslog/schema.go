package syslog

import "github.com/patchbay-dev/patchbay/providers"

func newSchema() *providers.Schema {
	return &providers.Schema{
		Kind:          "syslog",
		Category:      "logging",
		CategoryLabel: "Logging", // the category is not a built-in one
		Label:         "Syslog collector",
		Description:   "Log messages to a collector, over TCP with or without TLS.",
		Docs:          "https://www.rfc-editor.org/rfc/rfc5424",
		Status:        providers.Beta,
		AuthModes:     []providers.AuthMode{{Name: "static", Label: "Token"}},
		Egress:        providers.Egress{FromParams: []string{"host"}, TLS: "optional"},
		Tests: []providers.TestLevel{
			{Level: providers.LevelReach, Label: "Connect, and agree on TLS"},
			{Level: providers.LevelWrite, Label: "Send a message", SideEffects: true},
		},
		Params: []providers.Param{
			{
				// Who can change where the token goes must know the token.
				Name: "host", Type: providers.Host, Required: true, Label: "Host", Example: "logs.acme.example",
				BindsSecrets: []string{"token"}, AffectsConnection: true,
			},
			{
				Name: "port", Type: providers.Port, Default: int64(6514), Label: "Port",
				BindsSecrets: []string{"token"}, AffectsConnection: true,
			},
			{Name: "tls", Type: providers.Bool, Default: true, Label: "TLS", BindsSecrets: []string{"token"}, AffectsConnection: true},
			{
				Name: "app_name", Type: providers.String, Default: "patchbay", Label: "App name",
				Validate: providers.Validation{Pattern: `^[!-~]{1,48}$`, PatternMessage: "must be 1 to 48 printable ASCII characters without a space"},
			},
		},
		Secrets: []providers.Param{
			{Name: "token", Type: providers.String, Label: "Token", AffectsConnection: true, Help: "What the collector tells its customers apart by."},
		},
		Version: 1,
	}
}
