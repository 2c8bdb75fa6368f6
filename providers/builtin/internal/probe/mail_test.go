package probe_test

import (
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/probe"
)

func TestNewMail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, sender, recipient string
		code                    providers.TestCode
		from, to                string
	}{
		{"to oneself", "Acme <a@acme.example>", "", "", `"Acme" <a@acme.example>`, `"Acme" <a@acme.example>`},
		{"to somebody", "a@acme.example", "Bob <b@acme.example>", "", "<a@acme.example>", `"Bob" <b@acme.example>`},
		{"a name with quotes", `"A \"B\", C" <a@acme.example>`, "", "", `"A \"B\", C" <a@acme.example>`, `"A \"B\", C" <a@acme.example>`},
		{"nobody", "", "b@acme.example", providers.CodeSenderMissing, "", ""},
		{"a sender that is none", "Acme", "", providers.CodeSenderRefused, "", ""},
		{"a sender with a header", "a@acme.example\r\nBcc: e@evil.example", "", providers.CodeSenderRefused, "", ""},
		{"a recipient that is none", "a@acme.example", "Bob", providers.CodeRecipientRefused, "", ""},
		{"a recipient with a header", "a@acme.example", "b@acme.example\nBcc: e@evil.example", providers.CodeRecipientRefused, "", ""},
		{"two recipients", "a@acme.example", "b@acme.example, e@evil.example", providers.CodeRecipientRefused, "", ""},
	} {
		m, o, ok := probe.NewMail(c.sender, c.recipient)
		if ok != (c.code == "") || o.Code != c.code {
			t.Errorf("%s: %v %+v", c.name, ok, o)
			continue
		}
		if ok && (m.From.String() != c.from || m.To.String() != c.to) {
			t.Errorf("%s: from %s to %s", c.name, m.From, m.To)
		}
		if strings.Contains(o.Hint, "evil") {
			t.Errorf("%s: %s", c.name, o.Hint)
		}
	}
	if strings.ContainsAny(probe.Subject+probe.Text, "\r\n") {
		t.Error("the message's lines are more than they look like")
	}
}
