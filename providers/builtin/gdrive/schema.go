package gdrive

import (
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/google"
)

const kind providers.Kind = "google_drive"

// The values of the param auth; unset is OAuth.
const (
	OAuth          = "oauth"
	ServiceAccount = "service_account"
)

// Google's scopes (https://developers.google.com/workspace/drive/api/guides/api-specific-auth).
const (
	scopeDrive = "https://www.googleapis.com/auth/drive"
	scopeFile  = "https://www.googleapis.com/auth/drive.file"
)

// scopes are what tokens are asked for. drive.file, which is narrower, covers
// only files that the app made itself or that were opened with Google's picker:
// not a folder or shared drive whose id an admin typed.
func scopes() []string { return []string{scopeDrive} }

func byAccount() *providers.Condition {
	c := providers.Equals("auth", ServiceAccount)
	return &c
}

func byConsent() *providers.Condition { return &providers.Condition{Not: byAccount()} }

func newSchema() *providers.Schema {
	return &providers.Schema{
		Kind:        kind,
		Aliases:     []providers.Kind{"gdrive"},
		Category:    providers.Storage,
		Label:       "Google Drive",
		Icon:        "folder",
		Description: "Files in a folder of Google Drive or in a shared drive. Apps get an access token for the Drive API.",
		Docs:        "https://developers.google.com/workspace/drive/api/guides/about-sdk",
		Status:      providers.Stable,
		AuthModes: []providers.AuthMode{
			{Name: "oauth2", Label: "Google account", Grant: true, When: byConsent()},
			{Name: "service_account", Label: "Service account", When: byAccount()},
		},
		Scopes: scopes(),
		Egress: providers.Egress{Hosts: []string{"www.googleapis.com", "oauth2.googleapis.com"}, Ports: []int{443}, TLS: "always"},
		Tests: []providers.TestLevel{
			{Level: providers.LevelReach, Label: "Get a token and ask whose account it is"},
			{Level: providers.LevelPermission, Label: "Check that files can be put into the folder or drive"},
			{Level: providers.LevelWrite, Label: "Create an empty file and delete it", SideEffects: true},
		},
		Groups: []providers.Group{
			{Name: "account", Label: "Account", Help: "An OAuth client or service account of a Google Cloud project of yours, with the Drive API enabled. " +
				"While its consent screen is in testing, a connection ends after 7 days: publish it. A connection that is not used for 6 months ends."},
			{Name: "place", Label: "Where files go"},
		},
		Params: []providers.Param{
			{
				Name: "auth", Type: providers.Enum, Group: "account", Order: 10,
				Label: "Sign in with", Help: "Left open, it is a Google account that you connect.", AffectsConnection: true,
				Options: []providers.Option{
					{Value: OAuth, Label: "A Google account"},
					{Value: ServiceAccount, Label: "A service account", Warning: "It has no storage of its own: use a shared drive or delegation."},
				},
			},
			{
				Name: "client_id", Type: providers.String, RequiredWhen: byConsent(), VisibleWhen: byConsent(), Group: "account", Order: 20,
				Label: "Client id", Example: "1234567890-abc.apps.googleusercontent.com",
				DocURL:            "https://developers.google.com/workspace/guides/create-credentials",
				AffectsConnection: true, Validate: providers.Validation{MaxLength: 512},
			},
			{
				Name: "subject", Type: providers.EmailAddr, VisibleWhen: byAccount(), Group: "account", Order: 50,
				Label: "Act for", Help: "The user whom the service account acts for. A Workspace administrator has to allow it (domain-wide delegation) for the scope " + scopeDrive + ".",
				Example: "files@acme.example", DocURL: "https://developers.google.com/identity/protocols/oauth2/service-account#delegatingauthority",
				AffectsConnection: true,
			},
			{
				Name: "folder_id", Type: providers.String, Group: "place", Order: 60,
				Label: "Folder id", Help: "The last part of the folder's address. Left open, files go to the top of the drive.",
				Example: "1dyUEebJaFnWa3Z4n0BFMVAXQ7mfUH11g", AffectsConnection: true, Validate: fileID,
			},
			{
				Name: "drive_id", Type: providers.String, Group: "place", Order: 70,
				Label: "Shared drive id", Help: "The last part of the shared drive's address, where the folder is in one.",
				Example: "0AFqJ2K5kG6JXUk9PVA", DocURL: "https://developers.google.com/workspace/drive/api/guides/about-shareddrives",
				AffectsConnection: true, Validate: fileID,
			},
		},
		Secrets: []providers.Param{
			{
				Name: "client_secret", Type: providers.String, RequiredWhen: byConsent(), VisibleWhen: byConsent(), Group: "account", Order: 30,
				Label: "Client secret", AffectsConnection: true, Validate: providers.Validation{MaxLength: 512},
			},
			{
				Name: "service_account_json", Type: providers.JSON, RequiredWhen: byAccount(), VisibleWhen: byAccount(), Group: "account", Order: 40,
				Label: "Service account key", Help: "The whole JSON file.", DocURL: "https://developers.google.com/workspace/guides/create-credentials#service-account",
				AffectsConnection: true, Validate: providers.Validation{MaxLength: 16 << 10},
			},
		},
		Imports: []providers.ImportFormat{google.ClientFormat, google.ServiceAccountFormat, {Name: "nested", Label: "Nested or dotted keys"}},
		Version: 1,
	}
}

// fileID keeps out what would change a request's path, and the addresses that
// people copy instead of their last part.
var fileID = providers.Validation{
	MaxLength:      128,
	Pattern:        `^[A-Za-z0-9_-]+$`,
	PatternMessage: "must be an id (letters, digits, - and _): the last part of the address, without what follows a ?",
}
