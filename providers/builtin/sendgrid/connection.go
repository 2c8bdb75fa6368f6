package sendgrid

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/probe"
)

// Keys are "SG." and two parts, 69 characters in all
// (https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys).
const (
	keyPrefix = "SG."
	keyLength = 69
)

// TestConnection asks for the key's scopes, looks for mail.send among them, and
// submits a message in sandbox mode.
func (p *Provider) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	t := providers.NewTest(ctx, c, o)
	key := c.Secrets["api_key"].Reveal()
	if !strings.HasPrefix(key, keyPrefix) || len(key) != keyLength {
		// Only a warning: the form is a habit of SendGrid's and no promise.
		t.Note("key", providers.Warned(providers.CodeKeyMalformed, fmt.Sprintf(
			"SendGrid's keys start with %s and have %d characters, and this one doesn't. The key's id is not the key.", keyPrefix, keyLength)))
	}
	v := vendor{rt: p.rt, region: c.Text("region"), key: key}
	var scopes []string
	t.Step("authenticate", func(ctx context.Context) (out providers.Outcome) {
		scopes, out = v.authenticate(ctx)
		return out
	})
	if t.Level() >= providers.LevelPermission {
		t.Step("scopes", func(context.Context) providers.Outcome {
			if !slices.Contains(scopes, "mail.send") {
				return providers.Failed(providers.CodeScopeMissing,
					"The key may not send mail. Give it access to Mail Send, or make a key that has it.")
			}
			return providers.Good()
		})
	}
	if t.Level() >= providers.LevelWrite {
		t.Step("send", func(ctx context.Context) providers.Outcome {
			m, out, ok := probe.NewMail(c.Text("from"), o.Recipient)
			if !ok {
				return out
			}
			return v.send(ctx, m)
		})
	}
	return t.Report("Connected"), nil
}

// vendor is SendGrid as one config sees it.
type vendor struct {
	rt     providers.Runtime
	region string
	key    string
}

// base is the API's address in a region
// (https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/authentication).
func (v vendor) base(region string) string {
	if region == EU {
		return v.rt.Endpoint("sendgrid", EU, "https://api.eu.sendgrid.com")
	}
	return v.rt.Endpoint("sendgrid", Global, "https://api.sendgrid.com")
}

func (v vendor) other() string {
	if v.region == EU {
		return Global
	}
	return EU
}

func (v vendor) call(ctx context.Context, method, url string, body []byte) (r providers.Response, o providers.Outcome, ok bool) {
	req, o, ok := providers.Request(ctx, method, url, bytes.NewReader(body))
	if !ok {
		return r, o, false
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+v.key)
	return providers.Call(v.rt.Client(), req)
}

// authenticate returns the key's scopes. The request needs none itself, so that
// every valid key can make it.
func (v vendor) authenticate(ctx context.Context) ([]string, providers.Outcome) {
	r, o, ok := v.call(ctx, http.MethodGet, v.base(v.region)+"/v3/scopes", nil)
	if !ok {
		return nil, o
	}
	if r.Status == http.StatusOK {
		return scopesOf(r)
	}
	o = refused(r)
	if o.Code == providers.CodeWrongRegion {
		return nil, v.wrongRegion()
	}
	if o.Code == providers.CodeAuthFailed && v.base(v.other()) != v.base(v.region) {
		// A key of the other region is as unknown here as a wrong one.
		if r, _, ok := v.call(ctx, http.MethodGet, v.base(v.other())+"/v3/scopes", nil); ok && r.Status == http.StatusOK {
			if _, probed := scopesOf(r); probed.Status == providers.StepOK {
				return nil, v.wrongRegion()
			}
		}
	}
	return nil, o
}

func (v vendor) wrongRegion() providers.Outcome {
	region := v.other()
	label := "Use the global region"
	if region == EU {
		label = "Use the EU region"
	}
	return providers.Failed(providers.CodeWrongRegion, "The key belongs to the region "+region+".").
		WithFix(label, map[string]any{"region": region})
}

func scopesOf(r providers.Response) ([]string, providers.Outcome) {
	var body struct {
		Scopes []string `json:"scopes"`
	}
	if r.JSON(&body) != nil || body.Scopes == nil {
		return nil, providers.Failed(providers.CodeUnexpectedBody, "")
	}
	return body.Scopes, providers.Good()
}

// send submits the message in sandbox mode, which SendGrid answers with 200
// where a real message gets 202
// (https://www.twilio.com/docs/sendgrid/for-developers/sending-email/sandbox-mode).
func (v vendor) send(ctx context.Context, m probe.Mail) providers.Outcome {
	type address struct {
		Email string `json:"email"`
		Name  string `json:"name,omitempty"`
	}
	body, err := json.Marshal(map[string]any{
		"personalizations": []any{map[string]any{"to": []address{{m.To.Address, m.To.Name}}}},
		"from":             address{m.From.Address, m.From.Name},
		"subject":          probe.Subject,
		"content":          []any{map[string]string{"type": "text/plain", "value": probe.Text}},
		"mail_settings":    map[string]any{"sandbox_mode": map[string]bool{"enable": true}},
	})
	if err != nil {
		return providers.Failed(providers.CodeInternal, "")
	}
	r, o, ok := v.call(ctx, http.MethodPost, v.base(v.region)+"/v3/mail/send", body)
	switch {
	case !ok:
		return o
	case r.Status == http.StatusOK:
		return providers.Goodf("SendGrid accepts the message. Sandbox mode delivers nothing and does not prove that the sender is verified: only a real mail shows that.")
	case r.Status == http.StatusAccepted:
		return providers.Warned(providers.CodeUnexpectedStatus, "SendGrid took the message for delivery, although it was marked as a test.")
	}
	o = refused(r)
	if o.Code == providers.CodeWrongRegion {
		return v.wrongRegion()
	}
	return o
}

// refused says what an error answer means. The meaning is in the status and, in
// part, in words ({"errors": [{"message", "field", "help"}]}):
// https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/errors,
// https://support.sendgrid.com/hc/en-us/articles/18322114821403.
func refused(r providers.Response) providers.Outcome {
	var body struct {
		Errors []struct {
			Message string `json:"message"`
			Field   string `json:"field"`
		} `json:"errors"`
	}
	parsed := r.JSON(&body) == nil && len(body.Errors) > 0
	var message, field string
	if parsed {
		message, field = strings.ToLower(body.Errors[0].Message), body.Errors[0].Field
	}
	says := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(message, w) })
	}
	from := field == "from" || strings.HasPrefix(field, "from.")
	switch {
	case r.Status == http.StatusTooManyRequests:
		return limited(r)
	case r.Status >= 500, r.Status < 400:
		return providers.StatusOutcome(r)
	case !parsed && (r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden):
		// A proxy or a hotel's Wi-Fi, and not SendGrid's word on the key.
		return providers.Failed(providers.CodeUnexpectedBody, "")
	case r.Status == http.StatusUnauthorized && says("maximum credits exceeded"):
		return providers.Failed(providers.CodeQuotaExceeded, "The account's credits are used up. Wait for the next period or change the plan.")
	case r.Status == http.StatusUnavailableForLegalReasons, says("regional attribute"):
		return providers.Failed(providers.CodeWrongRegion, "")
	case r.Status == http.StatusUnauthorized && says("not authorized to send"):
		return providers.Failed(providers.CodePermissionDenied, "The account is not allowed to send mail just now. SendGrid's support can say why.")
	case r.Status == http.StatusUnauthorized:
		return providers.Failed(providers.CodeAuthFailed, "SendGrid does not know this key: it was deleted, or a part of it is missing.")
	case says("whitelist", "allowlist", "allow list", "ip address"):
		return providers.Failed(providers.CodeAddressNotAllowed, "The account's IP Access Management does not list our address.")
	case r.Status == http.StatusForbidden && from:
		return providers.Failed(providers.CodeSenderRefused, "The sender is not verified at SendGrid.")
	case r.Status == http.StatusForbidden:
		// The same words ("access forbidden") stand for all of these.
		return providers.Failed(providers.CodePermissionDenied, "SendGrid forbids the access: the key lacks a permission, the account's IP Access Management "+
			"does not list our address, or there were too many bad requests of late.")
	case !parsed:
		return providers.StatusOutcome(r)
	case r.Status == http.StatusBadRequest && from:
		return providers.Failed(providers.CodeSenderRefused, "SendGrid does not accept the sender's address.")
	case r.Status == http.StatusBadRequest && strings.HasPrefix(field, "personalizations"):
		return providers.Failed(providers.CodeRecipientRefused, "SendGrid does not accept the recipient's address.")
	case r.Status == http.StatusBadRequest, r.Status == http.StatusRequestEntityTooLarge:
		return providers.Failed(providers.CodeMessageRefused, "")
	default:
		return providers.StatusOutcome(r)
	}
}

// limited is the outcome of a 429. SendGrid says in X-RateLimit-Reset, in Unix
// seconds, when requests are taken again
// (https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/rate-limits).
func limited(r providers.Response) providers.Outcome {
	reset, err := strconv.ParseInt(r.Header.Get("X-Ratelimit-Reset"), 10, 64)
	if wait := reset - time.Now().Unix(); err == nil && wait > 0 && wait <= 24*60*60 {
		return providers.Failed(providers.CodeRateLimited, fmt.Sprintf("SendGrid limits our requests just now. Try again in %d s.", wait))
	}
	return providers.StatusOutcome(r)
}
