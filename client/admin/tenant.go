package admin

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Kind is a kind of connector.
type Kind struct {
	Kind          string   `json:"kind"`
	Aliases       []string `json:"aliases"`
	Category      string   `json:"category"`
	CategoryLabel string   `json:"category_label"`
	Label         string   `json:"label"`
	Description   string   `json:"description"`
	Status        string   `json:"status"`
	Version       int      `json:"version"`
	Docs          string   `json:"docs"`
}

// ListKinds lists the kinds.
func (c *Client) ListKinds(ctx context.Context) ([]Kind, error) {
	list, _, err := ask[struct {
		Items []Kind `json:"items"`
	}](ctx, c, http.MethodGet, connectors+"/types", nil, nil, nil)
	return list.Items, err
}

// GetKind reads a kind's JSON Schema (2020-12, with x-patchbay-* keywords).
func (c *Client) GetKind(ctx context.Context, kind string) (map[string]any, error) {
	s, _, err := ask[map[string]any](ctx, c, http.MethodGet, connectors+"/types/"+url.PathEscape(kind), nil, nil, nil)
	return s, err
}

// ImportOptions say how a data file is imported.
type ImportOptions struct {
	DryRun, Force, Restore, CreateOrganizations bool
	YAML                                        bool   // the file is YAML, not XML
	Name                                        string // what the file is called in problems
}

// Imported is what an import did, or would do.
type Imported struct {
	DryRun    bool        `json:"dry_run"`
	Changed   bool        `json:"changed"`
	Created   int         `json:"created"`
	Updated   int         `json:"updated"`
	Unchanged int         `json:"unchanged"`
	Skipped   int         `json:"skipped"`
	Plan      string      `json:"plan"`
	Conflicts []Violation `json:"conflicts"` // of a dry run
}

// ImportDataFile imports a data file, all or nothing.
func (c *Client) ImportDataFile(ctx context.Context, file io.Reader, o ImportOptions) (Imported, Meta, error) {
	q := url.Values{}
	flag(q, "dry_run", o.DryRun)
	flag(q, "force", o.Force)
	flag(q, "restore", o.Restore)
	flag(q, "create_organizations", o.CreateOrganizations)
	set(q, "name", o.Name)
	b := &body{"application/xml", file}
	if o.YAML {
		b.mediaType = "application/yaml"
	}
	return ask[Imported](ctx, c, http.MethodPost, connectors+"/import", q, b, nil)
}

// ExportDataFile writes the tenant as a data file ("xml" or "yaml"), secrets as
// "$ENV:" placeholders.
func (c *Client) ExportDataFile(ctx context.Context, format string, to io.Writer) error {
	return c.download(ctx, connectors+"/export", url.Values{"format": {format}}, to)
}

func (c *Client) download(ctx context.Context, path string, q url.Values, to io.Writer) error {
	res, _, err := c.open(ctx, http.MethodGet, path, q, nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }() // read to its end or given up
	_, err = io.Copy(to, res.Body)
	return err
}

// Organization is an organization of the tenant.
type Organization struct {
	ID         string    `json:"id"`
	ExternalID *string   `json:"external_id"`
	Name       string    `json:"name"`
	Active     bool      `json:"active"`
	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
}

// OrganizationList is a page of organizations.
type OrganizationList struct {
	Items      []Organization `json:"items"`
	NextCursor *string        `json:"next_cursor"`
}

const organizations = "/api/organizations"

// ListOrganizations returns one page.
func (c *Client) ListOrganizations(ctx context.Context, query, cursor string) (OrganizationList, error) {
	q := url.Values{}
	set(q, "q", query)
	set(q, "cursor", cursor)
	list, _, err := ask[OrganizationList](ctx, c, http.MethodGet, organizations, q, nil, nil)
	return list, err
}

// CreateOrganization makes an organization.
func (c *Client) CreateOrganization(ctx context.Context, id, name string, o ...Option) (Organization, Meta, error) {
	return ask[Organization](ctx, c, http.MethodPost, organizations, nil, map[string]string{"id": id, "name": name}, o)
}

// GetOrganization reads an organization.
func (c *Client) GetOrganization(ctx context.Context, id string) (Organization, error) {
	o, _, err := ask[Organization](ctx, c, http.MethodGet, organizations+"/"+url.PathEscape(id), nil, nil, nil)
	return o, err
}

// PatchOrganization renames an organization, or takes it out of use; nil is kept.
func (c *Client) PatchOrganization(ctx context.Context, id string, name *string, active *bool) (Organization, Meta, error) {
	edit := map[string]any{}
	if name != nil {
		edit["name"] = *name
	}
	if active != nil {
		edit["active"] = *active
	}
	return ask[Organization](ctx, c, http.MethodPatch, organizations+"/"+url.PathEscape(id), nil, edit, nil)
}

// AuditEntry says who did what, when.
type AuditEntry struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	Actor     string    `json:"actor"`
	Action    string    `json:"action"`
	Target    string    `json:"target"`
	Outcome   string    `json:"outcome"`
	RequestID string    `json:"request_id"`
	Fields    []string  `json:"fields"`
	Note      string    `json:"note"`
}

// AuditFilter narrows the audit. Zero fields do not narrow.
type AuditFilter struct {
	Actor, Action, Target, Outcome, RequestID string
	From, To                                  time.Time
}

func (f AuditFilter) query() url.Values {
	q := url.Values{}
	for name, v := range map[string]string{"actor": f.Actor, "action": f.Action, "target": f.Target, "outcome": f.Outcome, "request_id": f.RequestID} {
		set(q, name, v)
	}
	for name, at := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !at.IsZero() {
			q.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	return q
}

// AuditList is a page of the audit.
type AuditList struct {
	Items      []AuditEntry `json:"items"`
	NextCursor *string      `json:"next_cursor"`
}

// ListAudit returns one page, newest first.
func (c *Client) ListAudit(ctx context.Context, f AuditFilter, cursor string) (AuditList, error) {
	q := f.query()
	set(q, "cursor", cursor)
	list, _, err := ask[AuditList](ctx, c, http.MethodGet, "/api/audit", q, nil, nil)
	return list, err
}

// ExportAudit writes the audit as JSON Lines. One that broke off ends with a line that
// has "problem" alone.
func (c *Client) ExportAudit(ctx context.Context, f AuditFilter, to io.Writer) error {
	return c.download(ctx, "/api/audit/export", f.query(), to)
}

// Tenant is a tenant, for the platform's operator.
type Tenant struct {
	ID         string     `json:"id"`
	ExternalID *string    `json:"external_id"`
	Name       string     `json:"name"`
	Status     string     `json:"status"`   // ready, suspended
	PurgeAt    *time.Time `json:"purge_at"` // of a deleted one
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
}

// TenantList is a page of tenants.
type TenantList struct {
	Items      []Tenant `json:"items"`
	NextCursor *string  `json:"next_cursor"`
}

const tenants = "/api/tenants"

// ListTenants returns one page.
func (c *Client) ListTenants(ctx context.Context, query, cursor string) (TenantList, error) {
	q := url.Values{}
	set(q, "q", query)
	set(q, "cursor", cursor)
	list, _, err := ask[TenantList](ctx, c, http.MethodGet, tenants, q, nil, nil)
	return list, err
}

// CreateTenant makes a tenant.
func (c *Client) CreateTenant(ctx context.Context, id, name string, o ...Option) (Tenant, Meta, error) {
	return ask[Tenant](ctx, c, http.MethodPost, tenants, nil, map[string]string{"id": id, "name": name}, o)
}

// GetTenant reads a tenant.
func (c *Client) GetTenant(ctx context.Context, id string) (Tenant, error) {
	t, _, err := ask[Tenant](ctx, c, http.MethodGet, tenants+"/"+url.PathEscape(id), nil, nil, nil)
	return t, err
}

// PatchTenant renames a tenant.
func (c *Client) PatchTenant(ctx context.Context, id, name string) (Tenant, Meta, error) {
	return ask[Tenant](ctx, c, http.MethodPatch, tenants+"/"+url.PathEscape(id), nil, map[string]string{"name": name}, nil)
}

// DeleteTenant suspends a tenant and sets the date on which it may go for good.
func (c *Client) DeleteTenant(ctx context.Context, id string) (Tenant, Meta, error) {
	return ask[Tenant](ctx, c, http.MethodDelete, tenants+"/"+url.PathEscape(id), nil, nil, nil)
}

// SuspendTenant refuses whatever is asked for a tenant.
func (c *Client) SuspendTenant(ctx context.Context, id string) (Tenant, Meta, error) {
	return ask[Tenant](ctx, c, http.MethodPost, tenants+"/"+url.PathEscape(id)+"/suspend", nil, nil, nil)
}

// ResumeTenant ends a suspension, and a deletion whose date has not come.
func (c *Client) ResumeTenant(ctx context.Context, id string) (Tenant, Meta, error) {
	return ask[Tenant](ctx, c, http.MethodPost, tenants+"/"+url.PathEscape(id)+"/resume", nil, nil, nil)
}
