package adminapi

import (
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// optional is a member of a body that tells null from absent.
type optional[T any] struct {
	set, null bool
	value     T
}

// Target and Present are for strictjson.
func (o *optional[T]) Target() any { return &o.value }

// Present is for strictjson.
func (o *optional[T]) Present(null bool) { o.set, o.null = true, null }

// Schema is for the document: T or null.
func (o optional[T]) Schema(r huma.Registry) *huma.Schema {
	s := *r.Schema(reflect.TypeFor[T](), false, "")
	s.Nullable = true
	return &s
}

// organization reads an organization id of a body: null and "" are the whole tenant.
func organization(o optional[string], bad *[]fault.Violation) tenant.OrganizationID {
	if !o.set || o.null {
		return tenant.OrganizationID{}
	}
	id, err := tenant.ParseOrganizationID(o.value)
	if err != nil {
		*bad = append(*bad, fault.Violation{Pointer: "/organization_id", Code: "format", Message: "must be an organization id, or null for the whole tenant"})
	}
	return id
}

// problems is nil for no violation.
func problems(bad []fault.Violation) error {
	if len(bad) == 0 {
		return nil
	}
	return fault.New(fault.InvalidArgument, "the request has a problem").WithViolations(bad...)
}

// inQuery moves the places of an error to the query, for operations without a body.
func inQuery(err error) error {
	vs := fault.Violations(err)
	if len(vs) == 0 {
		return err
	}
	out := fault.New(fault.CodeOf(err), fault.Message(err)).WithCause(err).WithRetryAfter(fault.RetryAfter(err))
	for _, v := range vs {
		v.Pointer = "/query" + v.Pointer
		out = out.WithViolations(v)
	}
	return out
}

// Connector is a connector as reads show it. No member ever holds a secret.
type Connector struct {
	ID             string                  `json:"id" format:"uuid"`
	ExternalID     *string                 `json:"external_id" doc:"Of the data file that brought it; null for one made by the API."`
	Name           string                  `json:"name" example:"Acme S3"`
	Category       string                  `json:"category" example:"storage"`
	Kind           string                  `json:"kind" example:"s3"`
	OrganizationID *string                 `json:"organization_id" doc:"null: the whole tenant." example:"acme"`
	State          string                  `json:"state" enum:"draft,untested,connected,error,needs_reauthorization" doc:"What is known of its connection."`
	Active         bool                    `json:"active"`
	IsDefault      bool                    `json:"is_default" doc:"It answers for its organization and category."`
	BlockPinned    bool                    `json:"block_pinned" doc:"While inactive it answers nobody, not even those who hold its id."`
	Params         map[string]any          `json:"params" doc:"What is set, without defaults."`
	Secrets        map[string]SecretStatus `json:"secrets" doc:"Every secret of the kind, never a value."`
	LastTest       *TestResult             `json:"last_test" doc:"null until it was tested."`
	Version        int64                   `json:"version" doc:"Grows with every change; the ETag." minimum:"1"`
	CreatedAt      time.Time               `json:"created_at"`
	UpdatedAt      time.Time               `json:"updated_at"`
	DeletedAt      *time.Time              `json:"deleted_at" doc:"null while it lives."`
}

// SecretStatus is what may be told about a secret.
type SecretStatus struct {
	Configured bool       `json:"configured"`
	Version    int64      `json:"version,omitempty" doc:"Counts its changes, from 1; absent when not configured."`
	UpdatedAt  *time.Time `json:"updated_at,omitempty"`
}

// TestResult is the outcome of a connection test that ran.
type TestResult struct {
	OK       bool       `json:"ok"`
	Message  string     `json:"message" example:"Connected"`
	Level    int        `json:"level" minimum:"1" maximum:"3" doc:"How deep it went: 1 reach and authenticate, 2 the permission really needed, 3 write or send."`
	TestedAt time.Time  `json:"tested_at"`
	Steps    []TestStep `json:"steps"`
	Version  int64      `json:"version" doc:"Of the connector that was tested; 0 of a draft."`
}

// TestStep is one step of a test.
type TestStep struct {
	Name   string `json:"name" example:"connect"`
	Status string `json:"status" enum:"ok,warn,fail,skip"`
	Code   string `json:"code" doc:"What was found, stable; empty for nothing." example:"auth_failed"`
	MS     int64  `json:"ms" doc:"Milliseconds that it took."`
	Hint   string `json:"hint" doc:"What to do about it; empty for nothing."`
	Fix    *Fix   `json:"fix" doc:"A change of params that would mend it; null where there is none."`
}

// Fix is a change of params that can be applied as it is.
type Fix struct {
	Label  string         `json:"label"`
	Params map[string]any `json:"params" doc:"For a PATCH; null clears."`
}

func ref[T any](v T, set bool) *T {
	if !set {
		return nil
	}
	return &v
}

// shaped are items as the API shows them; none are an empty list, never null.
func shaped[T, S any](items []T, shape func(T) S) []S {
	out := make([]S, len(items))
	for i, item := range items {
		out[i] = shape(item)
	}
	return out
}

// replayed is the Idempotency-Replayed of an answer; "" leaves the header out.
func replayed(is bool) string {
	if is {
		return "true"
	}
	return ""
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }

func idText(o tenant.OrganizationID) *string { return ref(o.String(), !o.IsZero()) }

// shape is c as reads show it.
func (a *API) shape(c *connector.Connector) (Connector, error) {
	out := Connector{
		ID: c.ID.String(), ExternalID: ref(c.ExternalID, c.ExternalID != ""), Name: c.Name,
		Category: string(c.Category), Kind: string(c.Kind), OrganizationID: idText(c.Organization),
		State: string(c.State), Active: c.Active, IsDefault: c.Default, BlockPinned: c.BlockPinned,
		Params: map[string]any{}, Secrets: map[string]SecretStatus{}, Version: c.Version,
		CreatedAt: c.CreatedAt.UTC(), UpdatedAt: c.UpdatedAt.UTC(), DeletedAt: ref(c.DeletedAt.UTC(), !c.DeletedAt.IsZero()),
	}
	for name, p := range c.Params {
		if p.Value != nil {
			out.Params[name] = p.Value
		}
	}
	out.Secrets = secretStatuses(a.o.Service.SecretStatuses(c))
	last, err := connector.ParseTest(c.LastTest)
	if err != nil {
		return Connector{}, err
	}
	if last != nil {
		shaped := shapeTest(*last)
		out.LastTest = &shaped
	}
	return out, nil
}

func secretStatuses(of map[string]connector.SecretStatus) map[string]SecretStatus {
	out := make(map[string]SecretStatus, len(of))
	for name, s := range of {
		out[name] = SecretStatus{Configured: s.Configured, Version: s.Version, UpdatedAt: ref(s.UpdatedAt.UTC(), s.Configured)}
	}
	return out
}

func shapeTest(r connector.TestResult) TestResult {
	out := TestResult{OK: r.OK, Message: r.Message, Level: r.Level, TestedAt: r.TestedAt.UTC(), Version: r.Version, Steps: []TestStep{}}
	for _, s := range r.Steps {
		step := TestStep{Name: s.Name, Status: string(s.Status), Code: string(s.Code), MS: s.MS, Hint: s.Hint}
		if s.Fix != nil {
			step.Fix = &Fix{Label: s.Fix.Label, Params: s.Fix.Params}
		}
		out.Steps = append(out.Steps, step)
	}
	return out
}

// parseID reads the id of a path. One that can't be an id is unknown.
func parseID(text string) (connector.ID, error) {
	id, err := connector.ParseID(text)
	if err != nil {
		return connector.ID{}, fault.New(fault.NotFound, "there is no such connector")
	}
	return id, nil
}

// replacementID reads the id of a connector that a default goes to, "" for none.
func replacementID(text, pointer string, bad *[]fault.Violation) connector.ID {
	if text == "" {
		return connector.ID{}
	}
	id, err := connector.ParseID(text)
	if err != nil {
		*bad = append(*bad, fault.Violation{Pointer: pointer, Code: "format", Message: "must be a connector's id"})
	}
	return id
}

// secretsIn keeps the word "secrets" a map of values that can't be printed, and in
// the document what it is on the wire.
type secretIn struct{}

// Schema is for the document.
func (secretIn) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Nullable: true, WriteOnly: true, Description: "null clears it."}
}
