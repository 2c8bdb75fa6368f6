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

const tagTenants = "Tenants"

// Tenant is a tenant of the platform.
type Tenant struct {
	ID         string     `json:"id" example:"acme"`
	ExternalID *string    `json:"external_id" doc:"Of the data file that brought it; null for one made by the API."`
	Name       string     `json:"name" example:"Acme Corporation"`
	Status     string     `json:"status" enum:"ready,suspended"`
	PurgeAt    *time.Time `json:"purge_at" doc:"When a deleted one goes for good; until then it can be resumed. null: it is not deleted."`
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
}

// TenantList is a page of tenants.
type TenantList struct {
	Items      []Tenant `json:"items"`
	NextCursor *string  `json:"next_cursor" doc:"null on the last page."`
}

type tenantOutput struct {
	Location string `header:"Location" doc:"Where the tenant is; of a creation."`
	Replayed string `header:"Idempotency-Replayed" doc:"\"true\" where the key's request had been carried out before."`
	Revision int64  `header:"X-Patchbay-Revision" doc:"The tenant's revision after this."`
	Body     Tenant
}

// TenantPath is the input of an operation on one tenant.
type TenantPath struct {
	ID string `path:"tenant" doc:"The tenant's id." example:"acme"`
}

func shapeTenant(t connector.Tenant) Tenant {
	return Tenant{ID: t.ID.String(), ExternalID: ref(t.ExternalID, t.ExternalID != ""), Name: t.Name, Status: string(t.Status),
		PurgeAt: ref(t.PurgeAt.UTC(), !t.PurgeAt.IsZero()), CreatedAt: t.CreatedAt.UTC(), UpdatedAt: t.UpdatedAt.UTC()}
}

func (p TenantPath) tenant() (tenant.ID, error) {
	id, err := tenant.ParseID(p.ID)
	if err != nil {
		return id, fault.New(fault.NotFound, "there is no such tenant")
	}
	return id, nil
}

var tenantsCursor = cursor[tenant.ID]{"tenants", tenant.ParseID}

// tenantBody is a tenant to be created.
type tenantBody struct {
	ID   string `json:"id,omitempty" required:"true" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$" doc:"As the tokens name it; never changes." example:"acme"`
	Name string `json:"name,omitempty" maxLength:"200" doc:"For people; default the id."`
}

// tenantEdit is a change of a tenant.
type tenantEdit struct {
	Name string `json:"name,omitempty" required:"true" minLength:"1" maxLength:"200"`
}

func (a *API) tenants() {
	declare := func(id, method, path, summary, description string) operation {
		o := operation{
			Operation: huma.Operation{OperationID: id, Method: method, Path: "/api/tenants" + path, Tags: []string{tagTenants},
				Summary: summary, Description: description},
			permission: tenant.PlatformAdmin,
		}
		if method != http.MethodGet {
			o.may = []fault.Code{fault.Conflict} // it is being deleted for good
		}
		return o
	}
	register(a, declare("list-tenants", http.MethodGet, "", "List tenants", "By id."),
		func(ctx context.Context, k *call, in *struct {
			Status string `query:"status" enum:"ready,suspended"`
			Q      string `query:"q" maxLength:"200" doc:"Part of the id or name, in any case."`
			Cursor string `query:"cursor" maxLength:"200" doc:"next_cursor of the page before."`
			Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
		}) (*struct{ Body TenantList }, error) {
			f := connector.TenantFilter{Status: connector.Status(in.Status), Query: in.Q, Limit: in.Limit}
			var err error
			if f.After, err = tenantsCursor.key(in.Cursor); err != nil {
				return nil, err
			}
			page, err := a.o.Service.Tenants(ctx, k.scope, f)
			if err != nil {
				return nil, err
			}
			return &struct{ Body TenantList }{TenantList{shaped(page.Items, shapeTenant), tenantsCursor.next(page.Next)}}, nil
		})
	create := declare("create-tenant", http.MethodPost, "", "Create a tenant", "Ready, and empty. An id that was ever a tenant's is 409.")
	create.DefaultStatus, create.body, create.may = http.StatusCreated, tenantBody{}, []fault.Code{fault.AlreadyExists, fault.Conflict}
	register(a, create, func(ctx context.Context, k *call, in *struct {
		Keyed
		Raw
	}) (*tenantOutput, error) {
		body, err := decode[tenantBody](k, in.RawBody)
		if err != nil {
			return nil, err
		}
		once, err := k.once(in.RawBody)
		if err != nil {
			return nil, err
		}
		w, err := a.o.Service.CreateTenant(ctx, k.scope, connector.TenantDraft{ID: body.ID, Name: body.Name, Once: once})
		if err != nil {
			return nil, err
		}
		return &tenantOutput{Location: "/api/tenants/" + w.Tenant.ID.String(), Revision: w.Revision,
			Replayed: replayed(w.Replayed), Body: shapeTenant(w.Tenant)}, nil
	})
	register(a, declare("get-tenant", http.MethodGet, "/{tenant}", "Read a tenant", ""),
		func(ctx context.Context, k *call, in *TenantPath) (*struct{ Body Tenant }, error) {
			id, err := in.tenant()
			if err != nil {
				return nil, err
			}
			t, err := a.o.Service.GetTenant(ctx, k.scope, id)
			return &struct{ Body Tenant }{shapeTenant(t)}, err
		})
	patch := declare("patch-tenant", http.MethodPatch, "/{tenant}", "Rename a tenant", "")
	patch.body, patch.mediaTypes = tenantEdit{}, []string{mergePatch, "application/json"}
	register(a, patch, func(ctx context.Context, k *call, in *struct {
		TenantPath
		Raw
	}) (*tenantOutput, error) {
		body, err := decode[tenantEdit](k, in.RawBody, mergePatch)
		if err != nil {
			return nil, err
		}
		id, err := in.tenant()
		if err != nil {
			return nil, err
		}
		return tenantWritten(a.o.Service.RenameTenant(ctx, k.scope, id, body.Name))
	})
	verb := func(o operation, do func(ctx context.Context, sc connector.Scope, id tenant.ID) (connector.WrittenTenant, error)) {
		register(a, o, func(ctx context.Context, k *call, in *TenantPath) (*tenantOutput, error) {
			id, err := in.tenant()
			if err != nil {
				return nil, err
			}
			return tenantWritten(do(ctx, k.scope, id))
		})
	}
	verb(declare("delete-tenant", http.MethodDelete, "/{tenant}", "Delete a tenant",
		"It is suspended at once, and goes for good at `purge_at`, secrets and all. Until then it can be resumed. Its id is never given again."), a.o.Service.DeleteTenant)
	verb(declare("suspend-tenant", http.MethodPost, "/{tenant}/suspend", "Suspend a tenant",
		"Whatever is asked for it is refused, by every sidecar within a second."), a.o.Service.SuspendTenant)
	verb(declare("resume-tenant", http.MethodPost, "/{tenant}/resume", "Resume a tenant", "Ends a suspension, and a deletion that has not begun to be carried out; then it is 409."), a.o.Service.ResumeTenant)
}

func tenantWritten(w connector.WrittenTenant, err error) (*tenantOutput, error) {
	if err != nil {
		return nil, err
	}
	return &tenantOutput{Revision: w.Revision, Body: shapeTenant(w.Tenant)}, nil
}
