package arch

import (
	"go/ast"
	"path/filepath"
	"testing"
)

// revealing is the reviewed list of files that look inside a secret: how often,
// and why they must. Reveal is the only way from a secret to text that prints.
var revealing = map[string]struct {
	calls  int
	reason string
}{
	"cmd/sidecar/command/config.go":                {1, "hands the role id to the Vault client"},
	"connector/postgres/migrate.go":                {1, "connects"},
	"connector/postgres/store.go":                  {1, "connects"},
	"httpapi/resolve.go":                           {2, "writes the answer to the caller who is entitled to it"},
	"internal/config/files.go":                     {1, "puts Redis' password into the URL that its client takes"},
	"providers/report.go":                          {1, "finds a config's secrets in what goes into a report"},
	"providers/providertest/traps.go":              {1, "searches reports for planted secrets"},
	"providers/providertest/run.go":                {8, "searches a provider's errors and answers for planted secrets, and makes them odd"},
	"providers/builtin/s3/client.go":               {3, "hands the keys to the SDK, which signs with them"},
	"providers/builtin/smtp/session.go":            {1, "logs in to the mail server, and finds the password in what that repeats"},
	"providers/builtin/internal/google/account.go": {2, "reads a service account's key file, and checks the key in it"},
	"providers/builtin/internal/google/answer.go":  {1, "sends an access token to Google"},
	"providers/builtin/mailgun/connection.go":      {1, "sends the API key to Mailgun"},
	"providers/builtin/sendgrid/connection.go":     {1, "sends the API key to SendGrid, after a look at its form"},
	"providers/httpkind/send.go":                   {1, "sends the access token to the API that a declared kind names"},
	"providers/httpkind/template.go":               {1, "puts a secret into a request where the declared kind says"},
	"providers/oauth/consent.go":                   {3, "puts the verifier's digest into the consent's URL, and sends it with the code"},
	"providers/oauth/endpoint.go":                  {1, "sends the client's secret to its issuer"},
	"providers/oauth/grant.go":                     {2, "reads what is not secret of a grant, its client, times and scopes, and digests the client secret that it was used with"},
	"providers/oauth/mint.go":                      {2, "signs with a service account's key, and sends what it signed"},
	"providers/oauth/refresh.go":                   {1, "sends the refresh token to its issuer"},
	"providers/oauth/revoke.go":                    {4, "sends the token to be revoked, and the client's secret, to their issuer"},
	"providers/oauth/share.go":                     {2, "encrypts an access token for the shared cache, with a key from Vault"},
	"providers/secret.go":                          {1, "validates what a user typed"},
	"resolver/entry.go":                            {2, "serialises an answer, and swaps the end of one"},
	"resolver/memory.go":                           {2, "packs a bundle that is held, and unpacks it"},
	"resolver/rediscache/client.go":                {1, "connects"},
	"httpapi/adminapi/configview.go":               {1, "shows values to who has secrets.read, audited before"},
	"connector/internal/seal/seal.go":              {1, "encrypts what a consent waits for"},
	"connector/bundle.go":                          {1, "digests what an import brought, keyed"},
	"vault/callers.go":                             {1, "exchanges a caller's JWT for its Vault token"},
	"vault/codec.go":                               {2, "encodes and decodes a bundle"},
	"vault/kv.go":                                  {1, "writes a bundle to Vault"},
	"vault/login.go":                               {1, "logs in"},
	"vault/request.go":                             {2, "sends a body and the token to Vault"},
	"vault/sealed/record.go":                       {1, "encrypts a bundle"},
}

func TestWhoLooksInsideASecret(t *testing.T) {
	t.Parallel()
	found := map[string]int{}
	for _, p := range packages(t) {
		for _, name := range p.GoFiles {
			ast.Inspect(parse(t, filepath.Join(p.Dir, name)), func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Reveal" {
					found[p.ImportPath+"/"+name]++
				}
				return true
			})
		}
	}
	for file, n := range found {
		if r := revealing[file]; r.calls != n {
			t.Errorf("%s looks inside a secret %d times, %d are reviewed: say why in the list, or keep the secret closed", file, n, r.calls)
		}
	}
	for file := range revealing {
		if found[file] == 0 {
			t.Errorf("%s looks inside no secret any more: take it off the list", file)
		}
	}
}
