package syslog

import (
	"testing"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

// The suite that every provider passes.
func TestSuite(t *testing.T) {
	t.Parallel()
	providertest.Run(t, New(), providertest.Cases{
		Minimal: providers.Input{Params: map[string]any{"host": "logs.acme.example"}},
		Full:    input(map[string]any{"port": int64(601), "tls": false, "app_name": "billing"}),
		Bad: map[string]providertest.Bad{
			"a URL for a host":   {Input: input(map[string]any{"host": "https://logs.acme.example"}), Want: []string{"/params/host format"}},
			"a name with spaces": {Input: input(map[string]any{"app_name": "a b"}), Want: []string{"/params/app_name pattern"}},
			"nothing":            {Input: providers.Input{}, Want: []string{"/params/host required"}},
		},
		Test: true,
	})
}

// input is what an admin would have entered.
func input(params map[string]any) providers.Input {
	if params["host"] == nil {
		params["host"] = "logs.acme.example"
	}
	return providers.Input{Params: params, Secrets: providers.Secrets{"token": providers.NewSecret(token)}}
}

const token = `canary-"]\token` // what goes wrong in quotes, and is searched for in all that prints
