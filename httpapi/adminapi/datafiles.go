package adminapi

import (
	"bytes"
	"context"
	"net/http"
	"path"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tagFiles = "Data files"

// Files plans, applies and exports data files. Neither "$ENV:" nor "$FILE:" means
// anything to it: a tenant's file must not read the operator's environment.
type Files interface {
	Plan(ctx context.Context, f *datafile.File, o importer.Options) (*importer.Plan, error)
	Apply(ctx context.Context, p *importer.Plan) (importer.Result, error)
	Export(ctx context.Context, id tenant.ID) (*datafile.File, error)
}

// The media types of data files, with the extension that stands for each.
var fileTypes = []struct{ mediaType, extension string }{
	{"application/xml", ".xml"}, {"text/xml", ".xml"},
	{"application/yaml", ".yaml"}, {"application/x-yaml", ".yaml"}, {"text/yaml", ".yaml"},
}

// importTimeout is for thousands of connectors, each with a write to Vault.
const importTimeout = 5 * time.Minute

func (a *API) dataFiles() {
	if a.o.Files == nil {
		return
	}
	types := make([]string, len(fileTypes))
	for i, t := range fileTypes {
		types[i] = t.mediaType
	}
	register(a, operation{
		Operation: huma.Operation{OperationID: "import-data-file", Method: http.MethodPost, Path: pathImport, Tags: []string{tagFiles},
			Summary: "Import a data file", MaxBodyBytes: MaxBody + 1, Metadata: map[string]any{metaTimeout: importTimeout},
			Description: "All or nothing, idempotent by external id; the file wins only where its value changed since its last import. " +
				"`$ENV:` and `$FILE:` are for the operator's command line alone. Needs the whole tenant; a record of the tenant itself may not change it."},
		permission: tenant.ConnectorsWrite, may: []fault.Code{fault.Conflict},
		body: &huma.Schema{Type: huma.TypeString, Description: "The records, as XML or YAML."}, mediaTypes: types,
	}, a.importFile)
	register(a, operation{
		Operation: huma.Operation{OperationID: "export-data-file", Method: http.MethodGet, Path: "/api/connectors/export", Tags: []string{tagFiles},
			Summary: "Export the tenant as a data file", Description: "Secrets are `$ENV:` placeholders. Needs the whole tenant.",
			Responses: map[string]*huma.Response{"200": {Description: "The data file.", Content: map[string]*huma.MediaType{
				"application/xml":  {Schema: &huma.Schema{Type: huma.TypeString}},
				"application/yaml": {Schema: &huma.Schema{Type: huma.TypeString}},
			}}}},
		permission: tenant.ConnectorsRead,
	}, a.exportFile)
}

// wholeTenant is what a data file is about.
func (k *call) wholeTenant() error {
	if !k.scope.AllOrganizations {
		return fault.New(fault.PermissionDenied, "this is about the whole tenant: it needs all its organizations")
	}
	return nil
}

type importInput struct {
	DryRun              bool   `query:"dry_run" doc:"Say what would happen, and do nothing."`
	Force               bool   `query:"force" doc:"The file wins where it and the store both changed."`
	Restore             bool   `query:"restore" doc:"Bring back deleted connectors of the same external id."`
	CreateOrganizations bool   `query:"create_organizations" doc:"Create organizations that are only referred to."`
	Name                string `query:"name" maxLength:"200" doc:"What the file is called in problems." example:"acme.xml"`
	Raw
}

// ImportResult is what an import did, or would do.
type ImportResult struct {
	DryRun    bool              `json:"dry_run"`
	Changed   bool              `json:"changed" doc:"Something was written, or would be."`
	Created   int               `json:"created"`
	Updated   int               `json:"updated"`
	Unchanged int               `json:"unchanged"`
	Skipped   int               `json:"skipped"`
	Plan      string            `json:"plan" doc:"What happens to each record, for people; names, never values."`
	Conflicts []fault.Violation `json:"conflicts" doc:"Of a dry run: where file and store both changed. Without dry_run they are a 409."`
}

type importOutput struct {
	Revision *int64 `header:"X-Patchbay-Revision" doc:"The tenant's revision after this; absent where nothing was written."`
	Body     ImportResult
}

func (a *API) importFile(ctx context.Context, k *call, in *importInput) (*importOutput, error) {
	if err := k.wholeTenant(); err != nil {
		return nil, err
	}
	types := make([]string, 0, len(fileTypes))
	for _, t := range fileTypes {
		types = append(types, t.mediaType)
	}
	if err := k.mediaType(types...); err != nil {
		return nil, err
	}
	given, _, _ := mimeType(k)
	name := "file"
	if in.Name != "" {
		name = path.Base(in.Name)
	}
	for _, t := range fileTypes {
		if t.mediaType == given && path.Ext(name) != t.extension {
			name += t.extension
		}
	}
	if err := a.o.Service.Admit(ctx, k.scope); err != nil {
		return nil, err
	}
	file, err := datafile.Parse(name, bytes.NewReader(in.RawBody), datafile.Limits{Bytes: MaxBody})
	if fault.CodeOf(err) == fault.InvalidArgument { // not a data file at all
		err = fault.New(fault.Malformed, "the data file can't be read; nothing was imported").WithViolations(fault.Violations(err)...).WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	plan, err := a.o.Files.Plan(ctx, file, importer.Options{
		Tenant: k.scope.Tenant, FixedTenant: !k.scope.Platform, CreateOrganizations: in.CreateOrganizations,
		Force: in.Force, Restore: in.Restore, Actor: k.scope.Actor, Request: k.id,
	})
	if err != nil {
		return nil, err
	}
	out := &importOutput{Body: ImportResult{
		DryRun: in.DryRun, Changed: plan.Changed(), Plan: plan.String(), Conflicts: []fault.Violation{},
		Created: plan.Count(importer.Create), Updated: plan.Count(importer.Update) + plan.Count(importer.Restore),
		Unchanged: plan.Count(importer.Unchanged), Skipped: plan.Count(importer.Skip),
	}}
	if in.DryRun {
		for _, c := range plan.Conflicts() {
			out.Body.Conflicts = append(out.Body.Conflicts, fault.Violation{Code: string(fault.Conflict), Message: c.String()})
		}
		return out, nil
	}
	result, err := a.o.Files.Apply(ctx, plan)
	if fault.CodeOf(err) == fault.StaleVersion {
		err = fault.New(fault.Conflict, "the tenant's connectors are changed faster than the file can be imported; nothing was, so try again").WithCause(err)
	}
	if err != nil {
		return nil, err
	}
	// It may have planned anew meanwhile: what it did is what counts.
	out.Body.Created, out.Body.Updated, out.Body.Unchanged, out.Body.Skipped = result.Created, result.Updated, result.Unchanged, result.Skipped
	r, moved := result.Revisions[k.scope.Tenant]
	if out.Body.Changed = moved; moved {
		out.Revision = &r
	}
	return out, nil
}

type exportInput struct {
	Format string `query:"format" enum:"xml,yaml" default:"xml"`
}

type exportOutput struct {
	ContentType string `header:"Content-Type"`
	Disposition string `header:"Content-Disposition"`
	Body        []byte
}

func (a *API) exportFile(ctx context.Context, k *call, in *exportInput) (*exportOutput, error) {
	if err := k.wholeTenant(); err != nil {
		return nil, err
	}
	if err := a.o.Service.Admit(ctx, k.scope); err != nil {
		return nil, err
	}
	file, err := a.o.Files.Export(ctx, k.scope.Tenant)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	write, mediaType := datafile.WriteXML, "application/xml"
	if in.Format == "yaml" {
		write, mediaType = datafile.WriteYAML, "application/yaml"
	}
	if err := write(&out, file); err != nil {
		return nil, err
	}
	return &exportOutput{
		ContentType: mediaType, Body: out.Bytes(),
		Disposition: `attachment; filename="` + k.scope.Tenant.String() + "." + in.Format + `"`,
	}, nil
}
