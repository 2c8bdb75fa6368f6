package providers_test

import "github.com/patchbay-dev/patchbay/providers"

// rich is a kind that uses every type, both kinds of condition and every rule.
func rich() *providers.Schema {
	oauth := providers.Equals("mode", "oauth")
	account := providers.Equals("mode", "account")
	return &providers.Schema{
		Kind: "rich", Aliases: []providers.Kind{"wealthy"}, Category: "drawing", CategoryLabel: "Drawing", Label: "Rich", Version: 1,
		AuthModes: []providers.AuthMode{{Name: "oauth2", Grant: true, When: &oauth}},
		Egress:    providers.Egress{FromParams: []string{"url"}},
		Groups:    []providers.Group{{Name: "g", Label: "Group"}},
		Params: []providers.Param{
			{Name: "mode", Type: providers.Enum, Default: "oauth", Group: "g",
				Options: []providers.Option{{Value: "oauth"}, {Value: "account"}, {Value: "none", Deprecated: true}}},
			{Name: "client_id", Aliases: []string{"client"}, Type: providers.String, VisibleWhen: &oauth, Required: true},
			{Name: "subject", Type: providers.EmailAddr, RequiredWhen: &account},
			{Name: "note", Type: providers.Text},
			{Name: "count", Type: providers.Int, Validate: providers.Validation{Min: providers.Limit(1), Max: providers.Limit(9)}},
			{Name: "ratio", Type: providers.Number},
			{Name: "on", Type: providers.Bool},
			{Name: "tags", Type: providers.MultiEnum, Options: []providers.Option{{Value: "a"}, {Value: "b"}}},
			{Name: "url", Type: providers.URL, Validate: providers.Validation{Schemes: []string{"https"}}, BindsSecrets: []string{"key"}},
			{Name: "host", Type: providers.Host},
			{Name: "port", Type: providers.Port},
			{Name: "wait", Type: providers.Duration},
			{Name: "size", Type: providers.Bytes},
			{Name: "any", Type: providers.JSON},
			{Name: "headers", Type: providers.MapOf, Validate: providers.Validation{MaxLength: 2}},
			{Name: "items", Type: providers.List, Validate: providers.Validation{MinLength: 1}},
			{Name: "hint", Type: providers.Notice, Help: "Read this."},
			{Name: "upper", Type: providers.String, Validate: providers.Validation{
				Pattern: "^[A-Z]+$", PatternMessage: "must be capitals", MaxLength: 4}},
		},
		Secrets: []providers.Param{
			{Name: "key", Type: providers.String, VisibleWhen: &providers.Condition{Not: &oauth}},
			{Name: "account_json", Type: providers.JSON, RequiredWhen: &account},
		},
		Rules: []providers.Rule{
			{Type: providers.Conflicts, Field: "host", Fields: []string{"url"}},
			{Type: providers.Conflicts, Field: "client_id", Fields: []string{"ratio"}}, // only where client_id is visible
			{Type: providers.Requires, Field: "port", Fields: []string{"host"}},
			{Type: providers.ExactlyOneOf, Fields: []string{"host", "url", "note"}},
			{Type: providers.AtLeastOneOf, Fields: []string{"mode", "count"}},
		},
	}
}
