package adminapi

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tagOAuth = "OAuth2"

// ConsentView is a consent that begins.
type ConsentView struct {
	AuthorizationURL string    `json:"authorization_url" format:"uri" doc:"Where the user consents: open it in a window."`
	RedirectURI      string    `json:"redirect_uri" format:"uri" doc:"Where the user comes back to. The issuer must know it, letter by letter."`
	ExpiresAt        time.Time `json:"expires_at"`
}

// HandleView is what a consent comes back with.
type HandleView struct {
	Handle string `json:"handle" doc:"Completes the consent, once, within two minutes, for the user who began it."`
}

// Connected is the outcome of a completed consent.
type Connected struct {
	Connector Connector   `json:"connector"`
	Test      *TestResult `json:"test" doc:"Of the connection, right after; null where it could not run."`
}

// completeBody completes a consent.
type completeBody struct {
	Handle string `json:"handle,omitempty" required:"true" minLength:"1" maxLength:"100" doc:"What the consent came back with."`
}

const callbackPath = "/api/connectors/oauth/callback/"

// redirectURI is where a kind's consents come back to. It is config, and never what
// a Host header says: whoever sends one would be sent the code.
// Errors: fault.Unavailable where nobody has said how this is called from outside.
func (a *API) redirectURI(kind string) (string, error) {
	if a.o.PublicURL == "" {
		return "", fault.New(fault.Unavailable, "accounts can't be connected before the operator has set admin.public_url")
	}
	return strings.TrimSuffix(a.o.PublicURL, "/") + callbackPath + kind, nil
}

func (a *API) oauth() {
	register(a, operation{
		Operation: huma.Operation{OperationID: "start-consent", Method: http.MethodPost, Path: "/api/connectors/{id}/oauth/start", Tags: []string{tagOAuth},
			Summary:     "Begin an OAuth2 consent",
			Description: "With PKCE. The consent is bound to the caller and this connector, and comes back once, within ten minutes."},
		permission: tenant.ConnectorsWrite, may: []fault.Code{fault.Conflict},
	}, func(ctx context.Context, k *call, in *OnePath) (*struct{ Body ConsentView }, error) {
		id, err := parseID(in.ID)
		if err != nil {
			return nil, err
		}
		c, err := a.o.Service.Get(ctx, k.scope, id)
		if err != nil {
			return nil, err
		}
		redirect, err := a.redirectURI(string(c.Kind))
		if err != nil {
			return nil, err
		}
		s, err := a.o.Service.StartConsent(ctx, k.scope, id, redirect)
		if err != nil {
			return nil, err
		}
		return &struct{ Body ConsentView }{ConsentView{AuthorizationURL: s.URL, RedirectURI: s.RedirectURI, ExpiresAt: s.ExpiresAt}}, nil
	})
	register(a, operation{
		Operation: huma.Operation{OperationID: "consent-callback", Method: http.MethodGet, Path: callbackPath + "{kind}", Tags: []string{tagOAuth},
			Summary: "Where a consent comes back to", Metadata: map[string]any{metaAnyQuery: true},
			Description: "For the issuer's redirect, not for clients. It stores no grant: it answers a handle, which a browser hands to the window that opened it, " +
				"and which completes the consent for the user who began it alone.",
			Responses: map[string]*huma.Response{"200": {Description: "The handle.", Content: map[string]*huma.MediaType{
				"application/json": {Schema: a.huma.OpenAPI().Components.Schemas.Schema(typeOf[HandleView](), true, "")},
				"text/html":        {Schema: &huma.Schema{Type: huma.TypeString}},
			}}}},
		may: []fault.Code{fault.NotFound, fault.Conflict},
	}, a.callback)
	register(a, operation{
		Operation: huma.Operation{OperationID: "complete-consent", Method: http.MethodPost, Path: "/api/connectors/{id}/oauth/complete", Tags: []string{tagOAuth},
			Summary: "Complete an OAuth2 consent", Metadata: map[string]any{metaTimeout: testTimeout + 15*time.Second},
			Description: "Redeems the code, stores the grant, and tests the connection. Only the user who began it can."},
		permission: tenant.ConnectorsWrite, body: completeBody{}, may: []fault.Code{fault.Conflict, fault.NeedsReauthorization},
	}, func(ctx context.Context, k *call, in *struct {
		OnePath
		Raw
	}) (*struct {
		ETag     string `header:"ETag" doc:"The connector's version, for If-Match."`
		Revision int64  `header:"X-Patchbay-Revision" doc:"The tenant's revision after this."`
		Body     Connected
	}, error) {
		body, err := decode[completeBody](k, in.RawBody)
		if err != nil {
			return nil, err
		}
		id, err := parseID(in.ID)
		if err != nil {
			return nil, err
		}
		w, test, err := a.o.Service.CompleteConsent(ctx, k.scope, id, body.Handle)
		if err != nil {
			return nil, err
		}
		shaped, err := a.shape(&w.Connector)
		if err != nil {
			return nil, err
		}
		out := &struct {
			ETag     string `header:"ETag" doc:"The connector's version, for If-Match."`
			Revision int64  `header:"X-Patchbay-Revision" doc:"The tenant's revision after this."`
			Body     Connected
		}{ETag: etag(w.Connector.Version), Revision: w.Revision, Body: Connected{Connector: shaped}}
		if test != nil {
			t := shapeTest(*test)
			out.Body.Test = &t
		}
		return out, nil
	})
}

type callbackInput struct {
	Kind  string `path:"kind"`
	State string `query:"state"`
	Code  string `query:"code"`
	Error string `query:"error" doc:"Of RFC 6749 section 4.1.2.1, where the user or the issuer refused."`
}

// callback takes what an issuer's redirect brought. A person looks at the answer,
// so that it is a page where the client is a browser.
func (a *API) callback(ctx context.Context, k *call, in *callbackInput) (*struct{ Body func(huma.Context) }, error) {
	handle, err := a.answer(ctx, in)
	if !wantsPage(k.c) {
		if err != nil {
			return nil, err
		}
		return &struct{ Body func(huma.Context) }{func(h huma.Context) {
			_ = humafiber.Unwrap(h).JSON(HandleView{handle}) // two strings
		}}, nil
	}
	status, page := http.StatusOK, consentPage("Consent received", "You can close this window: the settings that opened it finish the rest.", handle)
	if err != nil {
		k.err = err
		p := problem.Of(err, k.id)
		status, page = p.Status, consentPage("The account was not connected", p.Detail, "")
	}
	return &struct{ Body func(huma.Context) }{func(h huma.Context) {
		c := humafiber.Unwrap(h)
		nonce := rand.Text()
		c.Status(status)
		c.Set(fiber.HeaderContentType, "text/html; charset=utf-8")
		c.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; style-src 'nonce-"+nonce+"'; script-src 'nonce-"+nonce+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		c.Response().SetBodyString(strings.ReplaceAll(page, "NONCE", nonce))
	}}, nil
}

func (a *API) answer(ctx context.Context, in *callbackInput) (string, error) {
	redirect, err := a.redirectURI(in.Kind)
	if err != nil {
		return "", err
	}
	if in.State == "" || in.Error == "" && in.Code == "" {
		return "", problems([]fault.Violation{{Pointer: "/query/state", Code: "required", Message: "this address is for an issuer's redirect, which brings state and code"}})
	}
	if in.Error != "" {
		if err := a.o.Service.RefuseConsent(ctx, in.State, redirect); err != nil {
			return "", err
		}
		return "", fault.New(fault.Conflict, refusalOf(in.Error))
	}
	return a.o.Service.AnswerConsent(ctx, in.State, redirect, secret.New(in.Code))
}

// refusalOf explains an error of RFC 6749 section 4.1.2.1 and of OpenID Connect. What
// the issuer writes beside it is anybody's text, and not shown.
func refusalOf(code string) string {
	switch code {
	case "access_denied":
		return "The consent was refused, by the user or by the rules of their organization. Begin again, and allow what is asked for."
	case "unauthorized_client", "invalid_client":
		return "The issuer does not let this OAuth2 client ask for consent. Check its id and its type at the issuer."
	case "invalid_scope":
		return "The issuer does not grant what was asked for. Check which permissions the OAuth2 client may ask for."
	case "redirect_uri_mismatch", "invalid_request":
		return "The issuer did not accept the request. Check that the redirect URI is registered there, letter by letter."
	case "login_required", "interaction_required", "consent_required", "account_selection_required":
		return "The issuer needs the user to sign in. Begin again."
	case "server_error", "temporarily_unavailable":
		return "The issuer has trouble of its own just now. Try again later."
	}
	return "The issuer refused the consent. Begin again; if it happens again, look at the OAuth2 client's settings there."
}

// wantsPage tells a browser from a program.
func wantsPage(c *fiber.Ctx) bool {
	return c.Get(fiber.HeaderAccept) != "" && c.Accepts("application/json", "text/html") == "text/html"
}

// consentPage tells a person how a consent went. handle goes to the window that
// opened this one, where that is of the same origin, and nowhere else; it is letters
// and digits. detail is a text of ours.
func consentPage(title, detail, handle string) string {
	var b strings.Builder
	b.WriteString(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><meta name="referrer" content="no-referrer">
<title>` + title + `</title><style nonce="NONCE">
body{font:16px/1.5 system-ui,sans-serif;background:#f5f6f8;color:#14213d;display:grid;place-items:center;min-height:100vh;margin:0}
main{background:#fff;border:1px solid #d9dde3;border-radius:8px;padding:32px;max-width:30em;margin:16px}
h1{font-size:20px;margin:0 0 8px}p{margin:0}
</style></head><body><main><h1>` + title + `</h1><p>` + htmlText(detail) + `</p>`)
	if handle != "" {
		// Not shown: whoever talked a person into this consent would ask for it.
		b.WriteString(`<script nonce="NONCE">
if (window.opener) window.opener.postMessage({type: "patchbay-consent", handle: "` + handle + `"}, window.location.origin);
else document.querySelector("p").textContent = "The settings that began this are not open any more, so nothing was connected. Begin again there.";
</script>`)
	}
	b.WriteString(`</main></body></html>`)
	return b.String()
}

var htmlText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace
