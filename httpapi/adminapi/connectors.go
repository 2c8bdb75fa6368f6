package adminapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tagConnectors = "Connectors"

// OnePath is the input of an operation on one connector.
type OnePath struct {
	ID string `path:"id" doc:"The connector's id." example:"01981a5c-6f3e-7b1a-8c6d-2f1e0a9b8c7d"`
}

// Matched adds If-Match to an input, for the document: it is read by call.version.
type Matched struct {
	IfMatch string `header:"If-Match" doc:"The ETag of the version that is meant; another one there is 412." example:"\"4\""`
}

// Keyed adds Idempotency-Key to an input, for the document.
type Keyed struct {
	IdempotencyKey string `header:"Idempotency-Key" doc:"Random text of 16 to 255 characters: the same request under the same key is carried out once within 24 hours." example:"6a1f0c9e-5a0f-4c3e-9a55-5f3d0c1b7e21"`
}

// one is the answer of a read of one connector.
type one struct {
	ETag string `header:"ETag" doc:"The connector's version, for If-Match."`
	Body Connector
}

// written is the answer of a write.
type written struct {
	ETag     string `header:"ETag" doc:"The connector's version, for If-Match."`
	Revision int64  `header:"X-Patchbay-Revision" doc:"The tenant's revision: a sidecar that is asked with it as X-Patchbay-Min-Revision has seen this write."`
	// Revocation is there where one was asked for.
	Revocation string `header:"X-Patchbay-Revocation" enum:"revoked,forgotten_only" doc:"What came of revoke: the issuer has ended the grant, or has no way to, and it is only forgotten here. At some issuers other connectors' grants of the same account end with it."`
	Body       Connector
}

func (a *API) written(w connector.Written) (*written, error) {
	body, err := a.shape(&w.Connector)
	if err != nil {
		return nil, err
	}
	return &written{ETag: etag(w.Connector.Version), Revision: w.Revision, Revocation: string(w.Revocation), Body: body}, nil
}

func (a *API) connectors() {
	register(a, operation{
		Operation: huma.Operation{OperationID: "list-connectors", Method: http.MethodGet, Path: "/api/connectors", Tags: []string{tagConnectors},
			Summary: "List connectors", Description: "Those within the caller's organizations, by id."},
		permission: tenant.ConnectorsRead,
	}, a.list)
	register(a, operation{
		Operation: huma.Operation{OperationID: "create-connector", Method: http.MethodPost, Path: "/api/connectors", Tags: []string{tagConnectors},
			Summary: "Create a connector", DefaultStatus: http.StatusCreated,
			Description: "An `active` one, and so a default, is tested before it is stored, unless `force` comes with a `reason`. Without `active` it is stored as it is, complete or not."},
		permission: tenant.ConnectorsWrite, body: createSchema(), examples: map[string]any{
			"A bucket of one organization, its default once it passes its test": map[string]any{
				"name": "Acme S3", "kind": "s3", "organization_id": "acme", "is_default": true,
				"params":  map[string]any{"bucket": "acme-prod", "region": "us-east-1"},
				"secrets": map[string]any{"access_key_id": "AKIA...", "secret_access_key": "..."},
			},
			"A mail relay of the whole tenant, to be tested and activated later": map[string]any{
				"name": "Relay", "kind": "smtp", "params": map[string]any{"host": "smtp.example.com", "username": "mailer"},
				"secrets": map[string]any{"password": "..."},
			},
		},
		may: []fault.Code{fault.Conflict, fault.NotFound},
	}, a.create)
	register(a, operation{
		Operation: huma.Operation{OperationID: "get-connector", Method: http.MethodGet, Path: "/api/connectors/{id}", Tags: []string{tagConnectors},
			Summary: "Read a connector"},
		permission: tenant.ConnectorsRead,
	}, func(ctx context.Context, k *call, in *OnePath) (*one, error) {
		id, err := parseID(in.ID)
		if err != nil {
			return nil, err
		}
		c, err := a.o.Service.Get(ctx, k.scope, id)
		if err != nil {
			return nil, err
		}
		body, err := a.shape(&c)
		return &one{ETag: etag(c.Version), Body: body}, err
	})
	overwrite := []fault.Code{fault.Conflict, fault.StaleVersion, fault.PreconditionRequired, fault.SecretRequired}
	register(a, operation{
		Operation: huma.Operation{OperationID: "replace-connector", Method: http.MethodPut, Path: "/api/connectors/{id}", Tags: []string{tagConnectors},
			Summary:     "Replace a connector",
			Description: "Omitted params take their defaults, omitted secrets are kept: nobody who reads them gets their values. `kind`, `category` and `organization_id` never change."},
		permission: tenant.ConnectorsWrite, body: replaceBody{}, may: overwrite,
	}, func(ctx context.Context, k *call, in *overwriteInput) (*written, error) {
		body, err := decode[replaceBody](k, in.RawBody)
		if err != nil {
			return nil, err
		}
		return a.update(ctx, k, in.ID, body.EditBody, true)
	})
	register(a, operation{
		Operation: huma.Operation{OperationID: "patch-connector", Method: http.MethodPatch, Path: "/api/connectors/{id}", Tags: []string{tagConnectors},
			Summary:     "Change a connector",
			Description: "A JSON merge patch (RFC 7396): what is omitted is kept, a null param or secret is cleared."},
		permission: tenant.ConnectorsWrite, body: EditBody{}, may: overwrite, mediaTypes: []string{mergePatch, "application/json"},
		examples: map[string]any{
			"Another secret, and a param back to its default": map[string]any{
				"params": map[string]any{"prefix": nil}, "secrets": map[string]any{"secret_access_key": "..."},
			},
		},
	}, func(ctx context.Context, k *call, in *overwriteInput) (*written, error) {
		body, err := decode[EditBody](k, in.RawBody, mergePatch)
		if err != nil {
			return nil, err
		}
		return a.update(ctx, k, in.ID, body, false)
	})
	register(a, operation{
		Operation: huma.Operation{OperationID: "delete-connector", Method: http.MethodDelete, Path: "/api/connectors/{id}", Tags: []string{tagConnectors},
			Summary: "Delete a connector", DefaultStatus: http.StatusNoContent,
			Description: "Softly: it answers nobody, and can be restored. A default needs `replacement` or `allow_no_default`."},
		permission: tenant.ConnectorsWrite, may: []fault.Code{fault.Conflict, fault.StaleVersion, fault.PreconditionRequired},
	}, a.delete)
}

const mergePatch = "application/merge-patch+json"

type listInput struct {
	Category       string `query:"category" doc:"Of this category alone." example:"email"`
	Kind           string `query:"kind" doc:"Of this kind alone, by its name or an alias." example:"smtp"`
	OrganizationID string `query:"organization_id" doc:"Of this organization alone."`
	TenantWide     bool   `query:"tenant_wide" doc:"true: those of the whole tenant alone."`
	State          string `query:"state" enum:"draft,untested,connected,error,needs_reauthorization"`
	IsDefault      string `query:"is_default" enum:"true,false" doc:"Those that are a default, or are none."`
	Q              string `query:"q" maxLength:"200" doc:"Part of the name, external id, kind or id, in any case."`
	Deleted        bool   `query:"deleted" doc:"true: deleted ones instead of living ones."`
	Cursor         string `query:"cursor" maxLength:"200" doc:"next_cursor of the page before."`
	Limit          int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

// ConnectorList is a page of connectors.
type ConnectorList struct {
	Items      []Connector `json:"items"`
	NextCursor *string     `json:"next_cursor" doc:"null on the last page."`
}

type listOutput struct{ Body ConnectorList }

var connectorsCursor = cursor[connector.ID]{"connectors", connector.ParseID}

func (a *API) list(ctx context.Context, k *call, in *listInput) (*listOutput, error) {
	f := connector.ListFilter{
		Category: providers.Category(in.Category), Kind: providers.Kind(in.Kind), State: connector.State(in.State),
		Query: in.Q, Deleted: in.Deleted, Limit: in.Limit,
	}
	if in.IsDefault != "" {
		f.Default = ref(in.IsDefault == "true", true)
	}
	switch {
	case in.OrganizationID != "" && in.TenantWide:
		return nil, problems([]fault.Violation{{Pointer: "/query/tenant_wide", Code: "conflict", Message: "does not go together with organization_id"}})
	case in.OrganizationID != "":
		org, err := tenant.ParseOrganizationID(in.OrganizationID)
		if err != nil {
			return nil, problems([]fault.Violation{{Pointer: "/query/organization_id", Code: "format", Message: "must be an organization id"}})
		}
		f.Organization = &org
	case in.TenantWide:
		f.Organization = &tenant.OrganizationID{}
	}
	var err error
	if f.After, err = connectorsCursor.key(in.Cursor); err != nil {
		return nil, err
	}
	page, err := a.o.Service.List(ctx, k.scope, f)
	if err != nil {
		return nil, err
	}
	out := &listOutput{ConnectorList{Items: make([]Connector, len(page.Items))}}
	for i := range page.Items {
		if out.Body.Items[i], err = a.shape(&page.Items[i]); err != nil {
			return nil, err
		}
	}
	out.Body.NextCursor = connectorsCursor.next(page.Next)
	return out, nil
}

// createBody is what POST takes. In the document it is one schema per kind.
type createBody struct {
	Name           string           `json:"name,omitempty" doc:"For people." maxLength:"200" minLength:"1" required:"true"`
	Category       string           `json:"category,omitempty" doc:"The kind's, when given."`
	Kind           string           `json:"kind,omitempty" required:"true"`
	OrganizationID optional[string] `json:"organization_id,omitzero" doc:"Whom it belongs to; null or absent: the whole tenant." example:"acme"`
	Params         map[string]any   `json:"params,omitempty"`
	Secrets        secret.Map       `json:"secrets,omitempty"`
	IsDefault      bool             `json:"is_default,omitempty" doc:"It answers for its organization and category from now on; implies active."`
	Active         *bool            `json:"active,omitempty" doc:"Default false, or true with is_default."`
	BlockPinned    bool             `json:"block_pinned,omitempty"`
	Forced
}

// Forced stands in for a test, or for a kind's consent.
type Forced struct {
	Force  bool   `json:"force,omitempty" doc:"Skip the test that would refuse this. Needs a reason, which is audited."`
	Reason string `json:"reason,omitempty" maxLength:"500" doc:"Why force is right."`
}

// Handover says who answers where a default goes.
type Handover struct {
	Replacement    string `json:"replacement,omitempty" format:"uuid" doc:"The connector that becomes the default instead."`
	AllowNoDefault bool   `json:"allow_no_default,omitempty" doc:"Accept that none answers from then on."`
}

func (h Handover) read(bad *[]fault.Violation) connector.Handover {
	return connector.Handover{Replacement: replacementID(h.Replacement, "/replacement", bad), AllowNoDefault: h.AllowNoDefault}
}

type createInput struct {
	Keyed
	Raw
}

type created struct {
	Location string `header:"Location" doc:"Where the connector is."`
	Replayed string `header:"Idempotency-Replayed" doc:"\"true\" where the key's request had been carried out before."`
	ETag     string `header:"ETag" doc:"The connector's version, for If-Match."`
	Revision int64  `header:"X-Patchbay-Revision" doc:"The tenant's revision after this."`
	Body     Connector
}

func (a *API) create(ctx context.Context, k *call, in *createInput) (*created, error) {
	body, err := decode[createBody](k, in.RawBody)
	if err != nil {
		return nil, err
	}
	var bad []fault.Violation
	org := organization(body.OrganizationID, &bad)
	once, err := k.once(in.RawBody)
	if err := firstOf(problems(bad), err); err != nil {
		return nil, err
	}
	w, err := a.o.Service.Create(ctx, k.scope, connector.Draft{
		Name: body.Name, Kind: body.Kind, Category: body.Category, Organization: org, Params: body.Params, Secrets: body.Secrets,
		Active: body.Active, Default: body.IsDefault, BlockPinned: body.BlockPinned, Force: body.Force, Reason: body.Reason, Once: once,
	})
	if err != nil {
		return nil, err
	}
	return a.created(w)
}

func (a *API) created(w connector.Written) (*created, error) {
	out, err := a.written(w)
	if err != nil {
		return nil, err
	}
	return &created{Location: "/api/connectors/" + w.Connector.ID.String(), ETag: out.ETag, Revision: out.Revision,
		Replayed: replayed(w.Replayed), Body: out.Body}, nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

type overwriteInput struct {
	OnePath
	Matched
	Raw
}

// EditBody is what PATCH takes.
type EditBody struct {
	Name           *string          `json:"name,omitempty" maxLength:"200" minLength:"1"`
	Category       *string          `json:"category,omitempty" doc:"Never changes: when given, it must be what is there."`
	Kind           *string          `json:"kind,omitempty" doc:"Never changes: when given, it must be what is there."`
	OrganizationID optional[string] `json:"organization_id,omitzero" doc:"Never changes: when given, it must be what is there."`
	Params         map[string]any   `json:"params,omitempty" doc:"As the kind's schema says; null clears a param."`
	Secrets        secret.Map       `json:"secrets,omitempty" doc:"Name to value; null clears a secret."`
	IsDefault      *bool            `json:"is_default,omitempty"`
	Active         *bool            `json:"active,omitempty"`
	BlockPinned    *bool            `json:"block_pinned,omitempty"`
	Handover
	Forced
}

// replaceBody is what PUT takes.
type replaceBody struct {
	EditBody
}

func (a *API) update(ctx context.Context, k *call, text string, body EditBody, replace bool) (*written, error) {
	id, err := parseID(text)
	if err != nil {
		return nil, err
	}
	var bad []fault.Violation
	e := connector.Edit{
		Name: body.Name, Kind: body.Kind, Category: body.Category, Params: body.Params, Secrets: body.Secrets, Replace: replace,
		Active: body.Active, Default: body.IsDefault, BlockPinned: body.BlockPinned, Handover: body.read(&bad),
		Force: body.Force, Reason: body.Reason,
	}
	if body.OrganizationID.set {
		e.Organization = ref(organization(body.OrganizationID, &bad), true)
	}
	if err := problems(bad); err != nil {
		return nil, err
	}
	w, err := demanded(ctx, k, id, func(version int64) (connector.Written, error) {
		return a.o.Service.Update(ctx, k.scope, id, version, e)
	})
	if err != nil {
		return nil, err
	}
	return a.written(w)
}

type deleteInput struct {
	OnePath
	Matched
	HandoverQuery
	Revoke bool   `query:"revoke" doc:"End its OAuth2 grant at the issuer, too."`
	Force  bool   `query:"force" doc:"Delete also where the kind's own deactivation fails. Needs a reason, which is audited."`
	Reason string `query:"reason" maxLength:"500"`
}

// HandoverQuery is Handover for operations without a body.
type HandoverQuery struct {
	Replacement    string `query:"replacement" doc:"The connector that becomes the default instead."`
	AllowNoDefault bool   `query:"allow_no_default" doc:"Accept that none answers from then on."`
}

type gone struct {
	Revision   int64  `header:"X-Patchbay-Revision" doc:"The tenant's revision after this."`
	Revocation string `header:"X-Patchbay-Revocation" enum:"revoked,forgotten_only" doc:"What came of revoke."`
}

func (a *API) delete(ctx context.Context, k *call, in *deleteInput) (*gone, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	var bad []fault.Violation
	o := connector.DeleteOptions{Revoke: in.Revoke, Force: in.Force, Reason: in.Reason,
		Handover: connector.Handover{Replacement: replacementID(in.Replacement, "/query/replacement", &bad), AllowNoDefault: in.AllowNoDefault}}
	if err := problems(bad); err != nil {
		return nil, err
	}
	w, err := demanded(ctx, k, id, func(version int64) (connector.Written, error) {
		o.Version = version
		return a.o.Service.Delete(ctx, k.scope, id, o)
	})
	if err != nil {
		return nil, inQuery(err)
	}
	return &gone{w.Revision, string(w.Revocation)}, nil
}
