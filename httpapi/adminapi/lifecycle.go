package adminapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tagLifecycle = "Lifecycle"

// testTimeout leaves a test its whole time and what is read and written around it.
const testTimeout = providers.TestTimeout + 20*time.Second

const opRestore = "restore-connector"

// lifecycleInput is the input of a verb on one connector, whose If-Match is honoured.
type lifecycleInput struct {
	OnePath
	Matched
	Raw
}

func (a *API) lifecycle() {
	verb := func(id, path, summary, description string, body any, may ...fault.Code) operation {
		return operation{
			Operation: huma.Operation{OperationID: id, Method: http.MethodPost, Path: "/api/connectors/{id}" + path, Tags: []string{tagLifecycle},
				Summary: summary, Description: description, Metadata: map[string]any{metaTimeout: testTimeout}},
			permission: tenant.ConnectorsWrite, body: body, bodyOptional: true, may: append([]fault.Code{fault.Conflict, fault.StaleVersion}, may...),
		}
	}
	register(a, verb("test-connector", "/test", "Test a connector",
		"Tests it as it is stored, and records the result as `last_test`. A test that ran and failed is a 200 with `\"ok\": false`.", TestBody{}), a.test)
	draft := verb("test-draft", "", "Test what is not saved",
		"Nothing is recorded. With `id` the stored secrets of that connector stand in for omitted ones, where nothing changed that says where they are sent.", testDraftBody{})
	draft.Path, draft.bodyOptional = "/api/connectors/test", false
	register(a, draft, a.testDraft)
	register(a, verb("activate-connector", "/activate", "Activate a connector",
		"Needs a passed test of this version, or `force` with a `reason`.", activateBody{}), a.activate)
	register(a, verb("deactivate-connector", "/deactivate", "Deactivate a connector",
		"It goes on answering those who hold its id, as inactive, unless `block_pinned`. A default needs `replacement` or `allow_no_default`.", deactivateBody{}), a.deactivate)
	def := verb("set-default", "/default", "Make a connector the default",
		"It answers for its organization and category in place of the one that did; both versions move.", nil)
	register(a, def, a.setDefault)
	register(a, operation{
		Operation: huma.Operation{OperationID: "clear-default", Method: http.MethodDelete, Path: "/api/connectors/{id}/default", Tags: []string{tagLifecycle},
			Summary: "Clear a default", Description: "No connector answers from then on, or the `replacement` does."},
		permission: tenant.ConnectorsWrite, may: []fault.Code{fault.Conflict, fault.StaleVersion},
	}, a.clearDefault)
	imported := verb("import-config", "/import-config", "Take over a vendor's own file",
		"The kind reads the file's content (Google's credentials.json, ...) and sets the params and secrets that are in it.", importConfigBody{},
		fault.PreconditionRequired, fault.SecretRequired)
	imported.bodyOptional = false
	register(a, imported, a.importConfig)
	register(a, verb(opRestore, "/restore", "Restore a deleted connector", "It comes back inactive. One that lives is left as it is.", nil), a.restore)
	clone := verb("clone-connector", "/clone", "Copy a connector", "Secrets included. The copy is inactive and untested, and needs its own consent.", cloneBody{})
	clone.DefaultStatus, clone.bodyOptional = http.StatusCreated, false
	register(a, clone, a.clone)
	register(a, operation{
		Operation: huma.Operation{OperationID: "get-config", Method: http.MethodGet, Path: "/api/connectors/{id}/config", Tags: []string{tagConnectors},
			Summary:     "Read the assembled config",
			Description: "Defaults filled in. With `reveal=true`, which needs the permission `secrets.read` and is audited, secrets are values; else they are masked as objects."},
		permission: tenant.ConnectorsRead, may: []fault.Code{fault.Conflict},
	}, a.getConfig)
	register(a, operation{
		Operation: huma.Operation{OperationID: "resolve-default", Method: http.MethodGet, Path: "/api/connectors/resolve", Tags: []string{tagLifecycle},
			Summary: "Which connector answers", Description: "With `explain=true`: and why the others don't. No secrets."},
		permission: tenant.ConnectorsRead,
	}, a.resolve)
	register(a, operation{
		Operation: huma.Operation{OperationID: "list-revisions", Method: http.MethodGet, Path: "/api/connectors/{id}/revisions", Tags: []string{tagConnectors},
			Summary: "History of a connector", Description: "Newest first, each with what it changed; of secrets their version numbers, never values. Deleted connectors have theirs, too."},
		permission: tenant.ConnectorsRead,
	}, a.revisions)
	restore := verb("restore-revision", "/revisions/{n}/restore", "Roll back to a revision",
		"Name, params and secrets become what they were, as a new version.", nil, fault.PreconditionRequired, fault.SecretRequired)
	restore.Tags = []string{tagConnectors}
	register(a, restore, a.restoreRevision)
}

// TestBody says how deep a test goes.
type TestBody struct {
	Level     int64  `json:"level,omitempty" minimum:"1" maximum:"3" default:"1" doc:"1 reach and authenticate, 2 the permission really needed, 3 write or send."`
	Recipient string `json:"recipient,omitempty" format:"email" doc:"Who gets the test mail of level 3; the sender by default."`
}

func (b TestBody) options() connector.TestOptions {
	return connector.TestOptions{Level: int(b.Level), Recipient: b.Recipient}
}

type testOutput struct{ Body TestResult }

func (a *API) test(ctx context.Context, k *call, in *lifecycleInput) (*testOutput, error) {
	body, err := decodeOptional[TestBody](k, in.RawBody)
	if err != nil {
		return nil, err
	}
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	if _, err := k.version(ctx, id, false); err != nil {
		return nil, err
	}
	r, err := a.o.Service.TestConnection(ctx, k.scope, id, body.options())
	if err != nil {
		return nil, err
	}
	return &testOutput{shapeTest(r)}, nil
}

// testDraftBody is a draft to test.
type testDraftBody struct {
	ID             string           `json:"id,omitempty" format:"uuid" doc:"The stored connector that the draft changes."`
	Name           string           `json:"name,omitempty" doc:"Not looked at: so that a create's body can be sent as it is."`
	Category       string           `json:"category,omitempty"`
	Kind           string           `json:"kind,omitempty" doc:"Needed without id."`
	OrganizationID optional[string] `json:"organization_id,omitzero" doc:"Not looked at."`
	Params         map[string]any   `json:"params,omitempty"`
	Secrets        secret.Map       `json:"secrets,omitempty"`
	TestBody
}

// DraftTestResult is the outcome of a draft's test.
type DraftTestResult struct {
	TestResult
	Withheld []string `json:"withheld" doc:"Stored secrets that did not stand in, because the draft would send them to another place."`
}

func (a *API) testDraft(ctx context.Context, k *call, in *Raw) (*struct{ Body DraftTestResult }, error) {
	body, err := decode[testDraftBody](k, in.RawBody)
	if err != nil {
		return nil, err
	}
	var id connector.ID
	if body.ID != "" {
		if id, err = parseID(body.ID); err != nil {
			return nil, err
		}
	}
	d := connector.Draft{Name: body.Name, Kind: body.Kind, Category: body.Category, Params: body.Params, Secrets: body.Secrets}
	r, err := a.o.Service.TestDraft(ctx, k.scope, d, id, body.options())
	if err != nil {
		return nil, err
	}
	out := DraftTestResult{TestResult: shapeTest(r), Withheld: append([]string{}, r.Withheld...)}
	return &struct{ Body DraftTestResult }{out}, nil
}

// activateBody says how to activate.
type activateBody struct{ Forced }

// verbOn is what most verbs begin with: the connector and the version that If-Match
// means, 0 for whatever is there.
func (k *call) verbOn(ctx context.Context, text string) (connector.ID, int64, error) {
	id, err := parseID(text)
	if err != nil {
		return id, 0, err
	}
	version, err := k.version(ctx, id, k.op.OperationID == opRestore)
	return id, version, err
}

func (a *API) activate(ctx context.Context, k *call, in *lifecycleInput) (*written, error) {
	body, err := decodeOptional[activateBody](k, in.RawBody)
	if err != nil {
		return nil, err
	}
	id, version, err := k.verbOn(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	w, err := a.o.Service.Activate(ctx, k.scope, id, connector.ActivateOptions{Version: version, Force: body.Force, Reason: body.Reason})
	if err != nil {
		return nil, err
	}
	return a.written(w)
}

// deactivateBody says how to deactivate.
type deactivateBody struct {
	Handover
	BlockPinned *bool `json:"block_pinned,omitempty" doc:"Refuse it to those who hold its id, too."`
	Revoke      bool  `json:"revoke,omitempty" doc:"End its OAuth2 grant at the issuer, too."`
	Forced
}

func (a *API) deactivate(ctx context.Context, k *call, in *lifecycleInput) (*written, error) {
	body, err := decodeOptional[deactivateBody](k, in.RawBody)
	if err != nil {
		return nil, err
	}
	id, version, err := k.verbOn(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	var bad []fault.Violation
	o := connector.DeactivateOptions{Version: version, Handover: body.read(&bad), BlockPinned: body.BlockPinned, Revoke: body.Revoke,
		Force: body.Force, Reason: body.Reason}
	if err := problems(bad); err != nil {
		return nil, err
	}
	w, err := a.o.Service.Deactivate(ctx, k.scope, id, o)
	if err != nil {
		return nil, err
	}
	return a.written(w)
}

// bodyless is the input of a verb that reads no body.
type bodyless struct {
	OnePath
	Matched
}

func (a *API) setDefault(ctx context.Context, k *call, in *bodyless) (*written, error) {
	id, version, err := k.verbOn(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	w, err := a.o.Service.SetDefault(ctx, k.scope, id, version)
	if err != nil {
		return nil, err
	}
	return a.written(w)
}

type clearDefaultInput struct {
	OnePath
	Matched
	Replacement string `query:"replacement" doc:"The connector that becomes the default instead."`
}

func (a *API) clearDefault(ctx context.Context, k *call, in *clearDefaultInput) (*written, error) {
	id, version, err := k.verbOn(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	var bad []fault.Violation
	o := connector.ClearOptions{Version: version, Replacement: replacementID(in.Replacement, "/query/replacement", &bad)}
	if err := problems(bad); err != nil {
		return nil, err
	}
	w, err := a.o.Service.ClearDefault(ctx, k.scope, id, o)
	if err != nil {
		return nil, inQuery(err)
	}
	return a.written(w)
}

// importConfigBody is a vendor's own file.
type importConfigBody struct {
	JSONData map[string]any `json:"json_data,omitempty" doc:"The file's content, where it is a JSON object."`
	FileData string         `json:"file_data,omitempty" doc:"The file in base64, where it is one." contentEncoding:"base64"`
}

// maxVendorFile bounds a vendor's file, in bytes.
const maxVendorFile = 256 << 10

// content is the file's JSON object.
func (b importConfigBody) content() (map[string]any, error) {
	bad := func(pointer, code, message string) (map[string]any, error) {
		return nil, problems([]fault.Violation{{Pointer: pointer, Code: code, Message: message}})
	}
	switch {
	case (b.JSONData == nil) == (b.FileData == ""):
		return bad("/json_data", "required", "give json_data or file_data, one of them")
	case b.JSONData != nil:
		return b.JSONData, nil
	}
	file, err := base64.StdEncoding.DecodeString(b.FileData)
	switch {
	case err != nil:
		return bad("/file_data", "format", "is not base64")
	case len(file) > maxVendorFile:
		return bad("/file_data", "length", "is larger than 256 KiB")
	}
	out, err := parseObject(file)
	if err != nil {
		return bad("/file_data", "format", "is not a file with a JSON object: "+fault.Message(err))
	}
	return out, nil
}

func (a *API) importConfig(ctx context.Context, k *call, in *lifecycleInput) (*written, error) {
	body, err := decode[importConfigBody](k, in.RawBody)
	if err != nil {
		return nil, err
	}
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	content, err := body.content()
	if err != nil {
		return nil, err
	}
	w, err := demanded(ctx, k, id, func(version int64) (connector.Written, error) {
		return a.o.Service.ImportConfig(ctx, k.scope, id, version, content)
	})
	if err != nil {
		return nil, err
	}
	return a.written(w)
}

func (a *API) restore(ctx context.Context, k *call, in *bodyless) (*written, error) {
	id, version, err := k.verbOn(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	w, err := a.o.Service.Restore(ctx, k.scope, id, version)
	if err != nil {
		return nil, err
	}
	return a.written(w)
}

// cloneBody names a copy.
type cloneBody struct {
	Name           string           `json:"name,omitempty" minLength:"1" maxLength:"200" required:"true"`
	OrganizationID optional[string] `json:"organization_id,omitzero" doc:"Whom the copy belongs to; null or absent: the whole tenant."`
}

type cloneInput struct {
	OnePath
	Keyed
	Raw
}

func (a *API) clone(ctx context.Context, k *call, in *cloneInput) (*created, error) {
	body, err := decode[cloneBody](k, in.RawBody)
	if err != nil {
		return nil, err
	}
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	var bad []fault.Violation
	org := organization(body.OrganizationID, &bad)
	once, err := k.once(in.RawBody)
	if err := firstOf(problems(bad), err); err != nil {
		return nil, err
	}
	w, err := a.o.Service.Clone(ctx, k.scope, id, connector.CloneOptions{Name: body.Name, Organization: org, Once: once})
	if err != nil {
		return nil, err
	}
	return a.created(w)
}
