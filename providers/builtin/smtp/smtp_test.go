package smtp_test

import (
	"flag"
	"maps"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/internal/testenv"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/smtp"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of these tests wait for a server that hangs, which needs no processor.
	_ = flag.Set("test.parallel", "32")
	testenv.Main(m)
}

// A stored password goes to the server that it was typed for, encrypted as it was
// when it was typed.
func TestWhereThePasswordGoesBindsIt(t *testing.T) {
	t.Parallel()
	s := smtp.New().Schema()
	for _, name := range []string{"host", "port", "tls"} {
		if got := s.BoundSecrets(name); len(got) != 1 || got[0] != "password" {
			t.Errorf("%s binds %v", name, got)
		}
	}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	with := func(params map[string]any) providers.Input { return providers.Input{Params: params} }
	providertest.Run(t, smtp.New(), providertest.Cases{
		Minimal: with(map[string]any{"host": "smtp.example.com"}),
		Full: providers.Input{Params: map[string]any{
			"host": "smtp.example.com", "port": int64(465), "tls": "implicit", "username": "acme",
			"from": "Acme <no-reply@acme.example>", "helo": "app.acme.example", "auth": "scram-sha-256",
		}, Secrets: secret.Map{"password": secret.New("canary-password")}},
		Bad: map[string]providertest.Bad{
			"a host with a port":      {Input: with(map[string]any{"host": "smtp.example.com:587"}), Want: []string{"/params/host format"}},
			"a host that is a URL":    {Input: with(map[string]any{"host": "https://smtp.example.com"}), Want: []string{"/params/host format"}},
			"an ambiguous address":    {Input: with(map[string]any{"host": "0x7f.1"}), Want: []string{"/params/host format"}},
			"port 0":                  {Input: with(map[string]any{"host": "h", "port": 0}), Want: []string{"/params/port format"}},
			"half a port":             {Input: with(map[string]any{"host": "h", "port": 25.5}), Want: []string{"/params/port type"}},
			"true is no port":         {Input: with(map[string]any{"host": "h", "port": true}), Want: []string{"/params/port type"}},
			"an injected command":     {Input: with(map[string]any{"host": "h", "username": "a\r\nRCPT TO:<x>"}), Want: []string{"/params/username control_character"}},
			"tls of another name":     {Input: with(map[string]any{"host": "h", "tls": "ssl"}), Want: []string{"/params/tls enum"}},
			"a sender that is none":   {Input: with(map[string]any{"host": "h", "from": "Acme"}), Want: []string{"/params/from format"}},
			"an empty host":           {Input: with(map[string]any{"host": ""}), Want: []string{"/params/host required"}},
			"a masked password":       {Input: providers.Input{Params: map[string]any{"host": "h"}, Secrets: secret.Map{"password": secret.New("********")}}, Want: []string{"/secrets/password masked"}},
			"an empty password":       {Input: providers.Input{Params: map[string]any{"host": "h"}, Secrets: secret.Map{"password": secret.New("")}}, Want: []string{"/secrets/password empty"}},
			"a password with NUL":     {Input: providers.Input{Params: map[string]any{"host": "h"}, Secrets: secret.Map{"password": secret.New("a\x00b")}}, Want: []string{"/secrets/password control_character"}},
			"a host among the secret": {Input: providers.Input{Secrets: secret.Map{"host": secret.New("h")}}, Want: []string{"/secrets/host secret_not_wanted"}},
		},
		Imports: map[string]providertest.Import{
			"by kind": {Raw: map[string]any{"smtp": map[string]any{"host": "h", "port": "25"}}, Want: map[string]any{"host": "h", "port": "25"}},
		},
		Test: true,
	})
}

// The answer always says the TLS mode: see Provider.Backend.
func TestBackend(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ give, want map[string]any }{
		"defaults":              {map[string]any{}, map[string]any{"port": int64(587), "tls": "starttls", "auth": "auto"}},
		"465":                   {map[string]any{"port": 465}, map[string]any{"port": int64(465), "tls": "implicit", "auth": "auto"}},
		"25":                    {map[string]any{"port": 25}, map[string]any{"port": int64(25), "tls": "starttls", "auth": "auto"}},
		"a choice is respected": {map[string]any{"port": 465, "tls": "none"}, map[string]any{"port": int64(465), "tls": "none", "auth": "auto"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := smtp.New()
			c.give["host"], c.want["host"] = "h", "h"
			cfg, err := p.Schema().Decode(providers.Input{Params: c.give}, providers.DecodeOptions{})
			if err != nil {
				t.Fatal(err)
			}
			b, err := p.Backend(t.Context(), cfg)
			if err != nil || !maps.Equal(b.Params, c.want) {
				t.Errorf("got %v, %v", b.Params, err)
			}
			if _, leaked := cfg.Params["tls"]; leaked != (c.give["tls"] != nil) {
				t.Error("Backend wrote into the config")
			}
		})
	}
}
