package adminapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tagOrganizations = "Organizations"

// Organization is an organization of a tenant.
type Organization struct {
	ID         string    `json:"id" example:"acme"`
	ExternalID *string   `json:"external_id" doc:"Of the data file that brought it; null for one made by the API."`
	Name       string    `json:"name" example:"Acme"`
	Active     bool      `json:"active" doc:"false: nothing is resolved for it."`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// OrganizationList is a page of organizations.
type OrganizationList struct {
	Items      []Organization `json:"items"`
	NextCursor *string        `json:"next_cursor" doc:"null on the last page."`
}

type organizationOutput struct {
	Location string `header:"Location" doc:"Where the organization is; of a creation."`
	Replayed string `header:"Idempotency-Replayed" doc:"\"true\" where the key's request had been carried out before."`
	Revision int64  `header:"X-Patchbay-Revision" doc:"The tenant's revision after this."`
	Body     Organization
}

// OrganizationPath is the input of an operation on one organization.
type OrganizationPath struct {
	ID string `path:"organization" doc:"The organization's id." example:"acme"`
}

func shapeOrganization(o connector.Organization) Organization {
	return Organization{ID: o.ID.String(), ExternalID: ref(o.ExternalID, o.ExternalID != ""), Name: o.Name, Active: o.Active,
		CreatedAt: o.CreatedAt.UTC(), UpdatedAt: o.UpdatedAt.UTC()}
}

func writtenOrganization(w connector.WrittenOrganization) *organizationOutput {
	return &organizationOutput{Revision: w.Revision, Replayed: replayed(w.Replayed), Body: shapeOrganization(w.Organization)}
}

// pathOrganization reads the id of a path. One that can't be an id is unknown.
func pathOrganization(text string) (tenant.OrganizationID, error) {
	id, err := tenant.ParseOrganizationID(text)
	if err != nil {
		return id, fault.New(fault.NotFound, "there is no such organization")
	}
	return id, nil
}

var organizationsCursor = cursor[tenant.OrganizationID]{"organizations", tenant.ParseOrganizationID}

// organizationBody is an organization to be created.
type organizationBody struct {
	ID   string `json:"id,omitempty" required:"true" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" doc:"As the tokens name it; never changes." example:"acme"`
	Name string `json:"name,omitempty" maxLength:"200" doc:"For people; default the id."`
}

// organizationEdit is a change of an organization.
type organizationEdit struct {
	Name   *string `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Active *bool   `json:"active,omitempty" doc:"false: nothing is resolved for it, within a second."`
}

func (a *API) organizations() {
	register(a, operation{
		Operation: huma.Operation{OperationID: "list-organizations", Method: http.MethodGet, Path: "/api/organizations", Tags: []string{tagOrganizations},
			Summary: "List organizations", Description: "Those that the caller reaches, by id."},
		permission: tenant.ConnectorsRead,
	}, func(ctx context.Context, k *call, in *struct {
		Active string `query:"active" enum:"true,false"`
		Q      string `query:"q" maxLength:"200" doc:"Part of the id or name, in any case."`
		Cursor string `query:"cursor" maxLength:"200" doc:"next_cursor of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	}) (*struct{ Body OrganizationList }, error) {
		f := connector.OrganizationFilter{Query: in.Q, Limit: in.Limit}
		if in.Active != "" {
			f.Active = ref(in.Active == "true", true)
		}
		var err error
		if f.After, err = organizationsCursor.key(in.Cursor); err != nil {
			return nil, err
		}
		page, err := a.o.Service.Organizations(ctx, k.scope, f)
		if err != nil {
			return nil, err
		}
		return &struct{ Body OrganizationList }{OrganizationList{shaped(page.Items, shapeOrganization), organizationsCursor.next(page.Next)}}, nil
	})
	register(a, operation{
		Operation: huma.Operation{OperationID: "create-organization", Method: http.MethodPost, Path: "/api/organizations", Tags: []string{tagOrganizations},
			Summary: "Create an organization", Description: "Needs the whole tenant.", DefaultStatus: http.StatusCreated},
		permission: tenant.ConnectorsWrite, body: organizationBody{}, may: []fault.Code{fault.AlreadyExists, fault.Conflict},
	}, func(ctx context.Context, k *call, in *struct {
		Keyed
		Raw
	}) (*organizationOutput, error) {
		body, err := decode[organizationBody](k, in.RawBody)
		if err != nil {
			return nil, err
		}
		once, err := k.once(in.RawBody)
		if err != nil {
			return nil, err
		}
		w, err := a.o.Service.CreateOrganization(ctx, k.scope, connector.OrganizationDraft{ID: body.ID, Name: body.Name, Once: once})
		if err != nil {
			return nil, err
		}
		out := writtenOrganization(w)
		out.Location = "/api/organizations/" + out.Body.ID
		return out, nil
	})
	register(a, operation{
		Operation: huma.Operation{OperationID: "get-organization", Method: http.MethodGet, Path: "/api/organizations/{organization}", Tags: []string{tagOrganizations},
			Summary: "Read an organization"},
		permission: tenant.ConnectorsRead,
	}, func(ctx context.Context, k *call, in *OrganizationPath) (*struct{ Body Organization }, error) {
		id, err := pathOrganization(in.ID)
		if err != nil {
			return nil, err
		}
		o, err := a.o.Service.Organization(ctx, k.scope, id)
		return &struct{ Body Organization }{shapeOrganization(o)}, err
	})
	register(a, operation{
		Operation: huma.Operation{OperationID: "patch-organization", Method: http.MethodPatch, Path: "/api/organizations/{organization}", Tags: []string{tagOrganizations},
			Summary: "Rename, deactivate or activate an organization", Description: "Needs the whole tenant."},
		permission: tenant.ConnectorsWrite, body: organizationEdit{}, may: []fault.Code{fault.Conflict}, mediaTypes: []string{mergePatch, "application/json"},
	}, func(ctx context.Context, k *call, in *struct {
		OrganizationPath
		Raw
	}) (*organizationOutput, error) {
		body, err := decode[organizationEdit](k, in.RawBody, mergePatch)
		if err != nil {
			return nil, err
		}
		id, err := pathOrganization(in.ID)
		if err != nil {
			return nil, err
		}
		w, err := a.o.Service.UpdateOrganization(ctx, k.scope, id, connector.OrganizationEdit{Name: body.Name, Active: body.Active})
		if err != nil {
			return nil, err
		}
		return writtenOrganization(w), nil
	})
}
