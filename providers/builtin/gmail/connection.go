package gmail

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/google"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/probe"
)

// TestConnection gets a token, finds out whose it is, checks that it may send
// and who the sender is, and sends a mail.
func (p *Provider) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	t := providers.NewTest(ctx, c, o)
	a := account{API: google.API{Runtime: p.rt}}
	t.Step("token", func(ctx context.Context) providers.Outcome {
		var err error
		a.Token, err = c.Token(ctx)
		return providers.TokenOutcome(err)
	})
	t.Step("profile", a.profile)
	t.Step("account", a.userinfo)
	sender := c.Text("sender")
	if t.Level() >= providers.LevelPermission {
		t.Step("scopes", func(context.Context) providers.Outcome { return a.maySend() })
		t.Step("permission", a.incomplete)
		t.Step("sender", func(context.Context) providers.Outcome { return a.compare(sender) })
	}
	if t.Level() >= providers.LevelWrite {
		t.Step("send", func(ctx context.Context) providers.Outcome {
			if sender == "" {
				sender = a.address
			}
			recipient := o.Recipient
			if recipient == "" {
				recipient = a.address // oneself, also where the sender is an alias
			}
			m, out, ok := probe.NewMail(sender, recipient)
			if !ok {
				return out
			}
			return a.send(ctx, m)
		})
	}
	return t.Report("Connected"), nil
}

// account is the connected account as the steps of one test learn of it.
type account struct {
	google.API
	address string // "" until it is known
}

// granted tells whether the token has one of the scopes; unknown is true where
// the issuer didn't say which it has.
func (a *account) granted(scopes ...string) (has, unknown bool) {
	return slices.ContainsFunc(scopes, func(s string) bool { return slices.Contains(a.Token.Scopes, s) }), a.Token.Scopes == nil
}

func (a *account) base() string {
	return a.Runtime.Endpoint(kind, "api", "https://gmail.googleapis.com")
}

// profile asks for the mailbox's address. gmail.send does not allow that
// (https://developers.google.com/workspace/gmail/api/reference/rest/v1/users/getProfile),
// so that a refusal for missing scopes is no finding here.
func (a *account) profile(ctx context.Context) providers.Outcome {
	const hint = "The granted scopes don't open the mailbox, which sending doesn't need."
	if has, unknown := a.granted(scopeMail, scopeModify, scopeCompose, scopeReadonly, scopeMetadata); !has && !unknown {
		return providers.Skipped(hint)
	}
	r, o, ok := a.Do(ctx, http.MethodGet, a.base()+"/gmail/v1/users/me/profile", "")
	if !ok {
		if o.Code == providers.CodeScopeMissing {
			return providers.Skipped(hint)
		}
		return noMailbox(r, o)
	}
	var body struct {
		Address string `json:"emailAddress"`
	}
	if r.JSON(&body) != nil || body.Address == "" {
		return google.Unexpected()
	}
	a.address = body.Address
	return providers.Goodf("Connected as %s.", providers.Quote(a.address))
}

// noMailbox sharpens the answer to an account that has no Gmail: 400 with the
// status FAILED_PRECONDITION
// (https://developers.google.com/workspace/gmail/api/guides/handle-errors).
func noMailbox(r providers.Response, o providers.Outcome) providers.Outcome {
	var body struct {
		Error struct {
			Status string `json:"status"`
		} `json:"error"`
	}
	if r.Status == http.StatusBadRequest && r.JSON(&body) == nil && body.Error.Status == "FAILED_PRECONDITION" {
		return providers.Failed(providers.CodePermissionDenied, "This Google account has no Gmail mailbox, or its mail service is switched off.")
	}
	return o
}

// userinfo asks OpenID Connect whose the token is, where the mailbox didn't say
// (https://developers.google.com/identity/openid-connect/openid-connect#obtainuserinfo).
func (a *account) userinfo(ctx context.Context) providers.Outcome {
	if a.address != "" {
		return providers.Skipped("")
	}
	if has, unknown := a.granted(scopeEmail, "email"); !has && !unknown {
		return providers.Skipped("The granted scopes don't tell whose account it is.")
	}
	r, o, ok := a.Do(ctx, http.MethodGet, a.Runtime.Endpoint(kind, "userinfo", "https://openidconnect.googleapis.com")+"/v1/userinfo", "")
	if !ok {
		if o.Code == providers.CodeScopeMissing {
			return providers.Skipped("The granted scopes don't tell whose account it is.")
		}
		return o
	}
	var body struct {
		Subject string `json:"sub"`
		Email   string `json:"email"`
	}
	if r.JSON(&body) != nil || body.Subject == "" {
		return google.Unexpected()
	}
	a.address = body.Email
	if a.address == "" {
		return providers.Goodf("Connected; the granted scopes don't tell the account's address.")
	}
	return providers.Goodf("Connected as %s.", providers.Quote(a.address))
}

// maySend looks for a scope with which users/me/messages/send works: on Google's
// consent page people can leave single ones out.
func (a *account) maySend() providers.Outcome {
	has, unknown := a.granted(scopeSend, scopeCompose, scopeModify, scopeMail)
	switch {
	case unknown:
		return providers.Skipped("Google did not say which scopes were granted. Test level 3 shows whether the account may send.")
	case !has:
		return providers.Failed(providers.CodeScopeMissing, "The consent does not include sending. Connect again and leave that box ticked.")
	default:
		return providers.Good()
	}
}

// incomplete submits a message that is none, which Gmail refuses as the last of
// what it checks: the API is enabled, the scopes suffice, and there is a mailbox
// to send from. Nothing else tells that without sending: gmail.send allows no
// other request (https://github.com/omarryhan/aiogoogle/issues/131).
func (a *account) incomplete(ctx context.Context) providers.Outcome {
	r, o, ok := a.Do(ctx, http.MethodPost, a.base()+sendPath, "{}")
	if ok {
		return google.Unexpected()
	}
	if o = noMailbox(r, o); o.Code == providers.CodeUnexpectedStatus && r.Status == http.StatusBadRequest {
		return providers.Good()
	}
	return o
}

// compare looks whether the account is the sender. Another one may be an alias
// ("send mail as"), which only further scopes could tell; where it is none Gmail
// puts the account's address in its place.
func (a *account) compare(sender string) providers.Outcome {
	if sender == "" {
		return providers.Skipped("No sender is configured: mail comes from the connected account.")
	}
	if a.address == "" {
		return providers.Skipped("The account's address is not known.")
	}
	if m, err := mail.ParseAddress(sender); err == nil && strings.EqualFold(m.Address, a.address) {
		return providers.Good()
	}
	return providers.Warned(providers.CodeSenderMismatch, "The connected account is "+providers.Quote(a.address)+
		", not the configured sender. Unless that is one of its addresses under \"Send mail as\", Gmail replaces it.")
}

const sendPath = "/gmail/v1/users/me/messages/send"

// send sends the message
// (https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages/send).
func (a *account) send(ctx context.Context, m probe.Mail) providers.Outcome {
	body, err := json.Marshal(map[string]string{"raw": base64.URLEncoding.EncodeToString(compose(m, time.Now()))})
	if err != nil {
		return providers.Failed(providers.CodeInternal, "")
	}
	r, o, ok := a.Do(ctx, http.MethodPost, a.base()+sendPath, string(body))
	if !ok {
		if o = noMailbox(r, o); o.Code == providers.CodeUnexpectedStatus && r.Status == http.StatusBadRequest {
			return providers.Failed(providers.CodeMessageRefused, "Gmail refuses the message: most often it does not accept the recipient.")
		}
		return o
	}
	var sent struct {
		ID string `json:"id"`
	}
	if r.JSON(&sent) != nil || sent.ID == "" {
		return google.Unexpected()
	}
	return providers.Goodf("Gmail took a mail for %s.", providers.Quote(m.To.Address))
}

// compose writes the message as RFC 5322. Addresses are parsed ones, which
// String writes quoted or encoded on one line; everything else is ours.
func compose(m probe.Mail, now time.Time) []byte {
	var b bytes.Buffer
	for _, h := range [][2]string{
		{"From", m.From.String()}, {"To", m.To.String()}, {"Subject", probe.Subject},
		{"Date", now.Format(time.RFC1123Z)}, {"MIME-Version", "1.0"}, {"Content-Type", "text/plain; charset=utf-8"},
	} {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	fmt.Fprintf(&b, "\r\n%s\r\n", probe.Text)
	return b.Bytes()
}
