package mailgun

import (
	"bytes"
	"context"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/probe"
)

// TestConnection asks for the domain with an account's key, or submits a message
// without sender and recipient with a sending key; looks at the domain's state;
// and submits a message in test mode.
func (p *Provider) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	t := providers.NewTest(ctx, c, o)
	v := vendor{
		rt: p.rt, region: c.Text("region"), domain: c.Text("domain"),
		key: c.Secrets["api_key"].Reveal(), sending: c.Text("key_type") == Sending,
	}
	if v.region == "" {
		v.region = US
	}
	var state string
	t.Step("authenticate", func(ctx context.Context) (out providers.Outcome) {
		if v.sending {
			return v.authenticateSending(ctx)
		}
		state, out = v.authenticate(ctx)
		return out
	})
	if t.Level() >= providers.LevelPermission {
		t.Step("domain", func(context.Context) providers.Outcome {
			if v.sending {
				return providers.Skipped("A sending key can't see the domain's state. Test level 3 shows whether Mailgun takes a message.")
			}
			return stateOutcome(state)
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

// stateOutcome judges a domain's state
// (https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/domains).
func stateOutcome(state string) providers.Outcome {
	switch state {
	case "active":
		return providers.Good()
	case "unverified":
		return providers.Failed(providers.CodeDomainInactive,
			"Mailgun has not verified the domain yet. Add its DNS records, then let Mailgun check them.")
	case "disabled":
		return providers.Failed(providers.CodeDomainInactive, "Mailgun has disabled the domain. Its page there, or the support, says why.")
	default:
		return providers.Failed(providers.CodeDomainInactive, "The domain is not active at Mailgun.")
	}
}

// vendor is Mailgun as one config sees it.
type vendor struct {
	rt                  providers.Runtime
	region, domain, key string
	sending             bool
}

// base is the API's address in a region
// (https://documentation.mailgun.com/docs/mailgun/api-reference).
func (v vendor) base(region string) string {
	if region == EU {
		return v.rt.Endpoint("mailgun", EU, "https://api.eu.mailgun.net")
	}
	return v.rt.Endpoint("mailgun", US, "https://api.mailgun.net")
}

// other is the region to look in when the domain isn't in the configured one;
// false where the operator has one endpoint for both.
func (v vendor) other() (string, bool) {
	region := EU
	if v.region == EU {
		region = US
	}
	return region, v.base(region) != v.base(v.region)
}

func (v vendor) call(ctx context.Context, method, url, contentType string, body io.Reader) (r providers.Response, o providers.Outcome, ok bool) {
	req, o, ok := providers.Request(ctx, method, url, body)
	if !ok {
		return r, o, false
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	req.SetBasicAuth("api", v.key)
	return providers.Call(v.rt.Client(), req)
}

func (v vendor) get(ctx context.Context, region string) (providers.Response, providers.Outcome, bool) {
	return v.call(ctx, http.MethodGet, v.base(region)+"/v4/domains/"+url.PathEscape(v.domain), "", nil)
}

// post submits a message of the given fields, which are names and values in
// turn.
func (v vendor) post(ctx context.Context, region string, fields ...string) (providers.Response, providers.Outcome, bool) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = form.WriteField(fields[i], fields[i+1]) // into memory: can't fail
	}
	_ = form.Close()
	return v.call(ctx, http.MethodPost, v.base(region)+"/v3/"+url.PathEscape(v.domain)+"/messages", form.FormDataContentType(), &body)
}

// authenticate returns the domain's state. 401 is a wrong key or the wrong
// region, 404 an unknown domain or the wrong region, and both a key that may
// only send: what it is shows in the other region, and in a message that can't
// be sent.
func (v vendor) authenticate(ctx context.Context) (string, providers.Outcome) {
	r, o, ok := v.get(ctx, v.region)
	if !ok {
		return "", o
	}
	if r.Status == http.StatusOK {
		return v.state(r)
	}
	o = v.refused(r)
	if !unclear(r) {
		return "", o
	}
	other, differs := v.other()
	elsewhere := 0
	if differs {
		if r, _, ok := v.get(ctx, other); ok {
			if unclear(r) {
				elsewhere = r.Status
			}
			if _, found := v.state(r); r.Status == http.StatusOK && found.Status == providers.StepOK {
				return "", v.wrongRegion(other, nil)
			}
		}
	}
	if r.Status == http.StatusNotFound || elsewhere == http.StatusNotFound {
		return "", providers.Failed(providers.CodeDomainNotFound,
			"The key is right, but its account has no domain "+v.domain+". Check its spelling, and whether it belongs to a subaccount.")
	}
	if v.takesMessages(ctx, v.region) {
		return "", providers.Failed(providers.CodeSendingKey, "This is the domain's sending key: it can send, and nothing else. Say so, and the test will do without the domain's state.").
			WithFix("It is a sending key", map[string]any{"key_type": Sending})
	}
	if differs && v.takesMessages(ctx, other) {
		return "", v.wrongRegion(other, map[string]any{"key_type": Sending})
	}
	return "", o
}

// unclear tells whether an answer may mean that the domain is in the other
// region. A 404 that is not JSON is none of Mailgun's about a domain: no such
// endpoint (https://documentation.mailgun.com/docs/mailgun/quickstart-guide/responses).
func unclear(r providers.Response) bool {
	return r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden || r.Status == http.StatusNotFound && message(r) != ""
}

// authenticateSending proves a key that may only send with a message that has
// neither sender nor recipient: Mailgun answers 400 to who may send and 401 to
// who may not, and there is nothing that it could deliver.
func (v vendor) authenticateSending(ctx context.Context) providers.Outcome {
	r, o, ok := v.post(ctx, v.region, "o:testmode", "yes")
	switch {
	case !ok:
		return o
	case incomplete(r):
		return providers.Goodf("Mailgun knows the key: it refused a message only for its missing sender.")
	case r.Status == http.StatusBadRequest, r.Status == http.StatusOK:
		return providers.Failed(providers.CodeUnexpectedBody, "")
	case unclear(r):
		if other, differs := v.other(); differs && v.takesMessages(ctx, other) {
			return v.wrongRegion(other, nil)
		}
	}
	return v.refused(r)
}

// takesMessages tells whether the key may send for the domain in a region.
func (v vendor) takesMessages(ctx context.Context, region string) bool {
	r, _, ok := v.post(ctx, region, "o:testmode", "yes")
	return ok && incomplete(r)
}

// incomplete tells whether Mailgun refused a message for what is missing in it.
func incomplete(r providers.Response) bool {
	return r.Status == http.StatusBadRequest && message(r) != ""
}

func (v vendor) wrongRegion(region string, also map[string]any) providers.Outcome {
	fix := map[string]any{"region": region}
	maps.Copy(fix, also)
	place, label := "the EU", "Use the EU region"
	if region == US {
		place, label = "the US", "Use the US region"
	}
	return providers.Failed(providers.CodeWrongRegion, "The domain "+v.domain+" is in "+place+".").WithFix(label, fix)
}

// state reads {"domain": {"name", "state", ...}, ...}.
func (v vendor) state(r providers.Response) (string, providers.Outcome) {
	var body struct {
		Domain struct {
			Name  string `json:"name"`
			State string `json:"state"`
		} `json:"domain"`
	}
	if r.JSON(&body) != nil || !strings.EqualFold(body.Domain.Name, strings.TrimSuffix(v.domain, ".")) || body.Domain.State == "" {
		return "", providers.Failed(providers.CodeUnexpectedBody, "")
	}
	return body.Domain.State, providers.Good()
}

// send submits the message in test mode: Mailgun checks it, charges for it and
// drops it
// (https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages/test-mode).
func (v vendor) send(ctx context.Context, m probe.Mail) providers.Outcome {
	r, o, ok := v.post(ctx, v.region, "from", m.From.String(), "to", m.To.String(),
		"subject", probe.Subject, "text", probe.Text, "o:testmode", "yes")
	if !ok {
		return o
	}
	said := strings.ToLower(message(r))
	switch {
	case r.Status == http.StatusOK && said != "":
		return providers.Goodf("Mailgun accepts the message. In test mode it is not delivered.")
	case r.Status == http.StatusOK:
		return providers.Failed(providers.CodeUnexpectedBody, "")
	case r.Status < 500 && r.Status >= 400 && strings.Contains(said, "authorized recipient"):
		return providers.Failed(providers.CodeRecipientRefused,
			"A sandbox domain or a free account sends to authorized recipients only. Add the recipient to them, or use a domain of your own.")
	case r.Status == http.StatusBadRequest && strings.Contains(said, "from"):
		return providers.Failed(providers.CodeSenderRefused, "Mailgun does not accept the sender's address.")
	case r.Status == http.StatusBadRequest && strings.Contains(said, "to parameter"),
		r.Status == http.StatusBadRequest && strings.Contains(said, "'to'"):
		return providers.Failed(providers.CodeRecipientRefused, "Mailgun does not accept the recipient's address.")
	case r.Status == http.StatusBadRequest && said != "", r.Status == http.StatusRequestEntityTooLarge:
		return providers.Failed(providers.CodeMessageRefused, "")
	case r.Status == http.StatusForbidden:
		return providers.Failed(providers.CodePermissionDenied, "Mailgun does not let the domain send. Its page there says why.")
	}
	return v.refused(r)
}

// refused says what an error answer means
// (https://documentation.mailgun.com/docs/mailgun/quickstart-guide/responses).
// Errors are {"message": "..."}, but for a plain-text "Forbidden" with 401 where
// messages are submitted (https://github.com/mailgun/mailgun.js/issues/207).
func (v vendor) refused(r providers.Response) providers.Outcome {
	switch r.Status {
	case http.StatusUnauthorized:
		return providers.Failed(providers.CodeAuthFailed,
			"Mailgun does not know this key, in neither region, or the account's IP allow-list lacks our address.")
	case http.StatusForbidden:
		return providers.Failed(providers.CodePermissionDenied, "Mailgun denies the access: the key is wrong, or its role does not reach the domain.")
	case http.StatusNotFound:
		if message(r) == "" {
			return providers.Failed(providers.CodeUnexpectedBody, "")
		}
		return providers.Failed(providers.CodeDomainNotFound, "The account has no domain "+v.domain+".")
	default:
		return providers.StatusOutcome(r)
	}
}

// message is what an answer says, "" where it isn't of the documented form. It
// is looked at and never repeated.
func message(r providers.Response) string {
	var body struct {
		Message string `json:"message"`
	}
	if r.JSON(&body) != nil {
		return ""
	}
	return body.Message
}
