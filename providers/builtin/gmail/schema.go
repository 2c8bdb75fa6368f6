package gmail

import (
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/google"
)

const kind providers.Kind = "gmail_oauth2"

// Google's scopes, by what they are looked at for
// (https://developers.google.com/workspace/gmail/api/auth/scopes).
const (
	scopeSend     = "https://www.googleapis.com/auth/gmail.send"
	scopeCompose  = "https://www.googleapis.com/auth/gmail.compose"
	scopeModify   = "https://www.googleapis.com/auth/gmail.modify"
	scopeReadonly = "https://www.googleapis.com/auth/gmail.readonly"
	scopeMetadata = "https://www.googleapis.com/auth/gmail.metadata"
	scopeMail     = "https://mail.google.com/"
	scopeEmail    = "https://www.googleapis.com/auth/userinfo.email"
)

// scopes are what a consent asks for: the least with which an app can send and
// an admin can see whose account it is. gmail.send is "sensitive"; everything
// that opens the mailbox, mail.google.com included, is "restricted" and wants a
// yearly security assessment of the OAuth client's owner. The price: no SMTP
// with XOAUTH2, which takes mail.google.com only.
func scopes() []string { return []string{scopeSend, "openid", scopeEmail} }

func newSchema() *providers.Schema {
	return &providers.Schema{
		Kind:     kind,
		Aliases:  []providers.Kind{"gmail"},
		Category: providers.Email,
		Label:    "Gmail",
		Icon:     "mail",
		Description: "Mail through the Gmail API as the connected account. Apps get an access token for users/me/messages/send; " +
			"it does not open the mailbox and does not work for SMTP.",
		Docs:      "https://developers.google.com/workspace/gmail/api/guides/sending",
		Status:    providers.Stable,
		AuthModes: []providers.AuthMode{{Name: "oauth2", Label: "Google account", Grant: true}},
		Scopes:    scopes(),
		Egress: providers.Egress{
			Hosts: []string{"gmail.googleapis.com", "oauth2.googleapis.com", "openidconnect.googleapis.com"},
			Ports: []int{443}, TLS: "always",
		},
		Tests: []providers.TestLevel{
			{Level: providers.LevelReach, Label: "Get a token and ask whose account it is"},
			{Level: providers.LevelPermission, Label: "Check that the account may send, and is the sender"},
			{Level: providers.LevelWrite, Label: "Send a mail", SideEffects: true},
		},
		Groups: []providers.Group{
			{Name: "client", Label: "OAuth client", Help: "Of a Google Cloud project of yours, with the Gmail API enabled. " +
				"While its consent screen is in testing, a connection ends after 7 days: publish it. " +
				"A connection that is not used for 6 months ends, and so does one whose account changes its password."},
			{Name: "sender", Label: "Sender"},
		},
		Params: []providers.Param{
			{
				Name: "client_id", Type: providers.String, Required: true, Group: "client", Order: 10,
				Label: "Client id", Example: "1234567890-abc.apps.googleusercontent.com",
				DocURL:            "https://developers.google.com/identity/protocols/oauth2#expiration",
				AffectsConnection: true, Validate: providers.Validation{MaxLength: 512},
			},
			{
				Name: "sender", Type: providers.EmailAddr, Group: "sender", Order: 30,
				Label: "Sender", Help: "An address, with or without a name: the connected account's, or one that it may send as.",
				Example: "Acme <no-reply@acme.example>", Validate: providers.Validation{Format: "mailbox"},
			},
		},
		Secrets: []providers.Param{
			{
				Name: "client_secret", Type: providers.String, Required: true, Group: "client", Order: 20,
				Label: "Client secret", AffectsConnection: true, Validate: providers.Validation{MaxLength: 512},
			},
		},
		Imports: []providers.ImportFormat{google.ClientFormat, {Name: "nested", Label: "Nested or dotted keys"}},
		Version: 1,
	}
}
