package builtin_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/providers"
)

// badInput is something that can be wrong with what an admin enters or with what
// answers there, which every kind has to be shown to survive.
type badInput struct {
	name string
	// traps are the cases that prove it, whichever kind has them: a kind needs at
	// least one.
	traps []string
	// of are cases that prove it for one kind.
	of map[providers.Kind][]string
	// not says why it can't come up in a kind.
	not map[providers.Kind]string
	// tests prove it where no connection test can: it never gets that far. Each is a
	// file below the repository's root, and a text in it.
	tests [][2]string
}

const (
	noRegion   = "one address for the whole world"
	noRedirect = "SMTP has no redirects"
	minted     = "its secret goes to the token endpoint alone"
)

// consents are the kinds whose requests carry a token, which they get with the
// config's secrets from an issuer: how issuers and tokens fail is held in
// providers/oauth, in the same words for all.
var consents = []providers.Kind{"gmail_oauth2", "google_drive", "microsoft_graph_mail"}

func exempt(why string, kinds ...providers.Kind) map[providers.Kind]string {
	out := map[providers.Kind]string{}
	for _, k := range kinds {
		out[k] = why
	}
	return out
}

var badInputs = []badInput{
	{name: "a wrong key", of: map[providers.Kind][]string{
		"smtp": {"a wrong password", "bad credentials"}, "s3": {"a wrong access key id", "a wrong secret access key"},
		"sendgrid": {"a wrong or revoked key"}, "mailgun": {"a wrong key in both regions", "a sending key that is wrong"},
		"postmark": {"a wrong or deleted token"}, "slack": {"a wrong token (200, invalid_auth)"},
		"twilio":   {"a wrong auth token (20003)", "a wrong API key, or one of another region"},
		"http_api": {"wrong credentials"}, "webhook": {"a signature that is refused", "an Authorization that is refused"},
		"gmail_oauth2": {"a wrong client secret (invalid_client)", "an access token that was revoked"},
		"google_drive": {"a wrong client secret (invalid_client)"}, "microsoft_graph_mail": {"a wrong client secret (invalid_client)"},
		declared: {"a wrong token"},
	}},
	{name: "a wrong region", of: map[providers.Kind][]string{
		"s3":       {"a wrong region", "a bucket of Amazon in another region", "a bucket in another region, which nobody says"},
		"sendgrid": {"a key of the EU at the global address", "a global key at the EU's address"},
		"mailgun":  {"401 because the domain is in the EU", "404 because the domain is in the US", "a sending key of the EU"},
		"twilio":   {"a wrong API key, or one of another region"},
	}, not: exempt(noRegion, "smtp", "postmark", "slack", "http_api", "webhook", "gmail_oauth2", "google_drive", "microsoft_graph_mail", declared)},
	{name: "a wrong port, with nothing at it", traps: []string{"nobody listening", "a wrong port"}},
	{name: "a wrong port, with something else at it", traps: []string{"something that is not HTTP", "a mail server", "a web server"},
		of: map[providers.Kind][]string{"smtp": {"an SSH server", "a web server with TLS on the mail port"}}},
	{name: "TLS where none is spoken", traps: []string{"TLS where plain HTTP is spoken", "https where http is spoken", "TLS from the start where STARTTLS is spoken"}},
	{name: "no TLS where it is spoken", traps: []string{"plain HTTP where TLS is spoken", "http where https is spoken", "STARTTLS on port 465, where TLS is expected"}},
	{name: "an expired certificate", traps: []string{"an expired certificate"}, of: map[providers.Kind][]string{"smtp": {"an expired certificate behind STARTTLS"}}},
	{name: "a certificate for another name", traps: []string{"a certificate for another name"}, of: map[providers.Kind][]string{
		"smtp": {"a certificate for another name behind STARTTLS"}, "s3": {"a bucket's host name that the certificate leaves out"}}},
	{name: "a certificate of an unknown authority", traps: []string{"a certificate of an authority that the operator does not know"}},
	{name: "a self-signed certificate", traps: []string{"a certificate that nobody signed", "a self-signed certificate"}},
	{name: "a self-signed certificate whose authority the operator gave", traps: []string{
		"a certificate that nobody signed and the operator trusts, and a status of 500", "a self-signed certificate that the operator trusts"}},
	{name: "a host that doesn't resolve", traps: []string{"a host name that does not resolve", "a host that doesn't resolve", "an endpoint that doesn't resolve"},
		of: map[providers.Kind][]string{"s3": {"a bucket's host name that doesn't resolve"}}},
	{name: "a host that resolves to a private address", traps: []string{"a host name that leads inside", "a host inside the operator's network", "an endpoint inside the operator's network"}},
	{name: "a host that resolves to a metadata service", traps: []string{"a host name of a metadata service", "a host that is a metadata service", "an endpoint that is a metadata service"}},
	{name: "a host that rebinds between check and dial", traps: []string{
		"a host name that leads inside from the second look-up on", "a host name that leads inside from the second look-up on, and a status of 500",
		"a host name that leads inside from the second look-up on, and a store that is down"}},
	{name: "a redirect, outside and inside", traps: []string{"a redirect to another host", "a redirect to a metadata service", "a web server that redirects", "a receiver that redirects"},
		not: exempt(noRedirect, "smtp")},
	{name: "a hang while connecting", traps: []string{"a connection that nobody accepts"}},
	{name: "a hang while agreeing on TLS", traps: []string{"a TLS handshake that nobody answers", "STARTTLS and then a hang", "TLS from the start with a server that says nothing"}},
	{name: "a hang before and in the first answer", traps: []string{
		"no answer at all", "an answer that stops in the middle", "headers that stop in the middle", "a server that says nothing", "a HEAD that hangs", "an EHLO that hangs"}},
	{name: "a hang at each later step", of: map[providers.Kind][]string{
		"smtp": {"STARTTLS that nobody answers", "an authentication that hangs", "a NOOP that hangs", "a sender after whom the server hangs",
			"a recipient after whom the server hangs", "a reset that hangs", "a message that nobody wants to hear", "a message that nobody acknowledges"},
		"s3":       {"a list that hangs", "an upload that hangs", "a download that hangs", "a delete that hangs"},
		"sendgrid": {"a hang at the step send"}, "mailgun": {"a wrong key while the other region hangs", "a hang at the step send"},
		"postmark": {"a hang at the step stream"}, "twilio": {"a hang at the step sender"},
		"http_api": {"an API that leaves who has no credentials hanging"}, "webhook": {"no answer at all"},
		"gmail_oauth2":         {"a token endpoint that never answers", "a hang at the step account", "a hang at the step permission", "a hang at the step send"},
		"google_drive":         {"a token endpoint that never answers", "a hang at the step folder", "a hang at the step drive", "a hang at the step write", "a hang at the step delete"},
		"microsoft_graph_mail": {"a token endpoint that never answers", "a hang at the step permission"},
		declared:               {"a hang at the step authenticate"},
	}, not: exempt("it asks once: the later steps look at the same answer", "slack")},
	{name: "1 GB", traps: []string{"a body of 1 GB", "headers of 1 GB", "a list of 1 GB", "an error of 1 GB", "a download of 1 GB", "a greeting of 1 GB in lines",
		"a greeting of 1 GB in one line", "an EHLO answer of 1 GB", "an authentication answered by 1 GB"}},
	{name: "garbage", traps: []string{"binary noise", "binary noise where TLS is expected", "HTML instead of JSON", "JSON that is cut off", "JSON of another type", "a list that is cut off"}},
	{name: "a secret with every kind of quote", of: map[providers.Kind][]string{
		// Its fakes' password has them all.
		"smtp": {"PLAIN by choice", "LOGIN, the only one on offer", "CRAM-MD5, the strongest on offer", "SCRAM-SHA-256, the strongest of all"},
		"s3":   {"a secret access key with every kind of quote"}, "sendgrid": {"a key with every kind of quote"}, "mailgun": {"a key with every kind of quote"},
		"postmark": {"a token with every kind of quote"}, "slack": {"a token with every kind of quote"}, "twilio": {"an auth token with every kind of quote"},
		"http_api": {"a credential with every kind of quote, as basic", "a credential with every kind of quote, as bearer", "a credential with every kind of quote, as a header",
			"a credential with every kind of quote, as the query"},
		"webhook": {"secrets with every kind of quote"}, declared: {"a token with every kind of quote"},
	}, not: exempt(minted, consents...)},
	{name: "a secret with NUL", tests: [][2]string{{"providers/providertest/run.go", "func testSecrets("}}},
	{name: "Google's credentials.json of the web, installed and service_account sort, truncated, of another product", tests: [][2]string{
		{"providers/builtin/gdrive/gdrive_test.go", "func TestImportRefuses("}, {"providers/builtin/gmail/gmail_test.go", "func TestImportRefuses("},
		{"providers/builtin/internal/google/google_test.go", "func TestReadFileRefuses("},
	}},
}

// names are the cases of each kind, in the order of its table.
func trapNames(t *testing.T) map[providers.Kind][]string {
	t.Helper()
	out := map[providers.Kind][]string{}
	for kind, rows := range trapTables(t) {
		for row := range strings.Lines(rows) {
			name, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
			out[kind] = append(out[kind], name)
		}
	}
	return out
}

// Every kind has met every bad input, or there is a reason why it can't.
func TestEveryKindMeetsEveryBadInput(t *testing.T) {
	t.Parallel()
	known := trapNames(t)
	for _, in := range badInputs {
		for _, test := range in.tests {
			b, err := os.ReadFile(filepath.Join("..", "..", filepath.FromSlash(test[0])))
			if err != nil || !bytes.Contains(b, []byte(test[1])) {
				t.Errorf("%s: %s has no %q (%v)", in.name, test[0], test[1], err)
			}
		}
		if in.tests != nil {
			continue
		}
		used := map[string]bool{}
		for kind, cases := range known {
			for _, name := range in.of[kind] {
				if !slices.Contains(cases, name) {
					t.Errorf("%s: %s has no case %q", in.name, kind, name)
				}
			}
			found := len(in.of[kind]) > 0
			for _, name := range in.traps {
				if slices.Contains(cases, cell(name)) {
					found, used[name] = true, true
				}
			}
			switch why := in.not[kind]; {
			case found && why != "":
				t.Errorf("%s: %s has a case and is excused by %q", in.name, kind, why)
			case !found && why == "":
				t.Errorf("%s: no case of %s proves it: add one, or say why it can't come up", in.name, kind)
			}
		}
		for _, name := range in.traps {
			if !used[name] {
				t.Errorf("%s: no kind has a case %q", in.name, name)
			}
		}
		for kind := range in.of {
			if known[kind] == nil {
				t.Errorf("%s: %s is no kind", in.name, kind)
			}
		}
	}
}

// badInputTable writes the matrix: for each bad input the cases that prove it, with
// the kinds that have them.
func badInputTable(t *testing.T, b *bytes.Buffer) {
	t.Helper()
	known := trapNames(t)
	kinds := slices.Sorted(maps.Keys(known))
	list := func(kinds []providers.Kind) string {
		var s []string
		for _, k := range kinds {
			if k != declared {
				k = "`" + k + "`"
			}
			s = append(s, string(k))
		}
		return strings.Join(s, ", ")
	}
	b.WriteString("\n| bad input | the cases that prove it |\n|---|---|\n")
	for _, in := range badInputs {
		var proofs []string
		names := slices.Clone(in.traps)
		for _, kind := range kinds {
			for _, name := range in.of[kind] {
				if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
		for _, name := range names {
			var with []providers.Kind
			for _, kind := range kinds {
				if slices.Contains(known[kind], cell(name)) && (slices.Contains(in.traps, name) || slices.Contains(in.of[kind], name)) {
					with = append(with, kind)
				}
			}
			where := list(with)
			if without := slices.DeleteFunc(slices.Clone(kinds), func(k providers.Kind) bool { return slices.Contains(with, k) }); len(without) == 0 {
				where = "all"
			} else if len(without) < 4 && len(with) > len(without) {
				where = "all but " + list(without)
			}
			proofs = append(proofs, fmt.Sprintf("*%s* (%s)", cell(name), where))
		}
		reasons := map[string][]providers.Kind{}
		for kind, why := range in.not {
			reasons[why] = append(reasons[why], kind)
		}
		for _, why := range slices.Sorted(maps.Keys(reasons)) {
			slices.Sort(reasons[why])
			proofs = append(proofs, fmt.Sprintf("not %s: %s", list(reasons[why]), why))
		}
		for _, test := range in.tests {
			proofs = append(proofs, fmt.Sprintf("refused before any test: `%s`", test[0]))
		}
		fmt.Fprintf(b, "| %s | %s |\n", cell(in.name), strings.Join(proofs, "; "))
	}
}
