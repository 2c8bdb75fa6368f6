package adminapi

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

const (
	securityScheme = "bearer"
	schemaPrefix   = "#/components/schemas/"
)

// config is huma without what it would serve by itself: its document and schemas
// name the Host that was asked for, and its documentation page loads from outside.
func (a *API) config() huma.Config {
	registry := huma.NewMapRegistry(schemaPrefix, nameOf)
	registry.RegisterTypeAlias(reflect.TypeFor[secret.Value](), reflect.TypeFor[secretIn]())
	registry.RegisterTypeAlias(reflect.TypeFor[json.RawMessage](), reflect.TypeFor[anyIn]())
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Patchbay admin API", Version: a.version(),
				Description: "Connectors of a tenant, and tenants of a platform. Errors are problems (RFC 9457). No read shows a secret, except where it says so.",
				License:     &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"},
				Contact:     &huma.Contact{Name: "Patchbay", URL: "https://github.com/patchbay-dev/patchbay"},
			},
			Servers: a.servers(),
			Tags: []*huma.Tag{
				{Name: tagConnectors, Description: "What is stored: create, read, change, delete, history."},
				{Name: tagLifecycle, Description: "What becomes of it: test, activate, default, restore, copy."},
				{Name: tagOAuth, Description: "A user's consent, for kinds that act as their account."},
				{Name: tagFiles, Description: "The whole tenant as XML or YAML."},
				{Name: tagOrganizations, Description: "Organizations of the tenant."},
				{Name: tagAudit, Description: "Who did what, when; names of what changed, never values."},
				{Name: tagTenants, Description: "For the platform's operator."},
				{Name: tagKinds, Description: "The kinds of connectors and their schemas."},
			},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					securityScheme: {Type: "http", Scheme: "bearer", BearerFormat: "JWT",
						Description: "A JWT of a configured issuer. The platform's operator names the tenant that is meant with X-Tenant-Id."},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat},
		DefaultFormat: "application/json",
	}
}

var jsonFormat = huma.DefaultJSONFormat

func (a *API) version() string {
	if a.o.Version == "" {
		return "0.0.0"
	}
	return a.o.Version
}

func (a *API) servers() []*huma.Server {
	url := a.o.PublicURL
	if url == "" {
		url = "/"
	}
	return []*huma.Server{{URL: url}}
}

// nameOf names a type's schema: what clients meet has the name of its type, a body
// ends with what it is for.
func nameOf(t reflect.Type, hint string) string { return huma.DefaultSchemaNamer(t, hint) }

// anyIn is any JSON value.
type anyIn struct{}

// Schema is for the document.
func (anyIn) Schema(huma.Registry) *huma.Schema { return &huma.Schema{} }

// finish completes the document with what huma can't say, and freezes it.
// Errors: fault.Internal when it can't be written.
func (a *API) finish() error {
	a.describeCreate()
	schemas := a.huma.OpenAPI().Components.Schemas.Map()
	if s := schemas["Connector"]; s != nil {
		s.Properties["last_test"] = nullable(s.Properties["last_test"])
		a.perKind(schemas, s)
	}
	// A person looks at what becomes of a consent, also where it fails.
	if item := a.huma.OpenAPI().Paths[callbackPath+"{kind}"]; item != nil {
		for _, r := range item.Get.Responses {
			r.Content["text/html"] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
		}
	}
	if s := schemas["Connected"]; s != nil {
		s.Properties["test"] = nullable(s.Properties["test"])
	}
	if s := schemas["TestStep"]; s != nil {
		s.Properties["fix"] = nullable(s.Properties["fix"])
	}
	if s := schemas["Resolution"]; s != nil {
		s.Properties["problem"] = nullable(s.Properties["problem"])
	}
	document, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return fault.New(fault.Internal, "the OpenAPI document can't be written").WithCause(err)
	}
	a.document = document
	return nil
}

// nullable is s or null.
func nullable(s *huma.Schema) *huma.Schema {
	return &huma.Schema{Description: s.Description, AnyOf: []*huma.Schema{{Ref: s.Ref}, {Type: "null"}}}
}

// perKind makes a connector one of its kinds: what its params are depends on the
// kind. What is read may be a draft, or older than its kind, so nothing is required
// there; a kind that is not part of this build has a schema without any.
func (a *API) perKind(schemas map[string]*huma.Schema, base *huma.Schema) {
	one := &huma.Schema{Description: base.Description, Discriminator: &huma.Discriminator{PropertyName: "kind", Mapping: map[string]string{}}}
	schemas["ConnectorBase"] = base
	add := func(name, kind string, refine *huma.Schema) {
		schemas[name] = &huma.Schema{AllOf: []*huma.Schema{{Ref: schemaPrefix + "ConnectorBase"}, refine}}
		one.OneOf = append(one.OneOf, &huma.Schema{Ref: schemaPrefix + name})
		if kind != "" {
			one.Discriminator.Mapping[kind] = schemaPrefix + name
		}
	}
	var kinds []any
	for _, p := range a.o.Kinds.Kinds() {
		s := p.Schema()
		kinds = append(kinds, string(s.Kind))
		j := s.JSONSchema()
		refine := object(map[string]any{
			"kind":     map[string]any{"const": string(s.Kind)},
			"category": map[string]any{"const": string(s.Category)},
			"params":   described(j, "params", s.Label),
		})
		add("Connector_"+string(s.Kind), string(s.Kind), refine)
	}
	add("Connector_other", "", object(map[string]any{"kind": map[string]any{
		"not": map[string]any{"enum": kinds}, "description": "A kind that is not part of this build.",
	}}))
	schemas["Connector"] = one
}

// described is the names and types of a kind's params, none of them required.
func described(j map[string]any, part, label string) map[string]any {
	all, _ := j["properties"].(map[string]any)
	own, _ := all[part].(map[string]any)
	return map[string]any{"type": "object", "description": "Params of " + label + ".", "properties": typesOnly(own["properties"])}
}

// typesOnly keeps of each property what holds for any stored value.
func typesOnly(properties any) map[string]any {
	out := map[string]any{}
	m, _ := properties.(map[string]any)
	for name, p := range m {
		from, _ := p.(map[string]any)
		to := map[string]any{}
		for _, keep := range []string{"type", "title", "description"} {
			if v, ok := from[keep]; ok {
				to[keep] = v
			}
		}
		out[name] = to
	}
	return out
}

// object is a JSON Schema as huma carries it: by keywords that it doesn't know.
func object(properties map[string]any) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, Extensions: map[string]any{"properties": properties}}
}

// createSchema is what POST takes: one schema per kind, told apart by kind.
func createSchema() *huma.Schema {
	return &huma.Schema{Ref: schemaPrefix + "ConnectorCreate"}
}

// describeCreate registers the schemas that createSchema refers to.
func (a *API) describeCreate() {
	registry := a.huma.OpenAPI().Components.Schemas
	schemas := registry.Map()
	base := registry.Schema(reflect.TypeFor[createBody](), false, "ConnectorCreate")
	delete(schemas, nameOf(reflect.TypeFor[createBody](), ""))
	one := &huma.Schema{Description: "A connector to be created, by its kind.", Discriminator: &huma.Discriminator{PropertyName: "kind", Mapping: map[string]string{}}}
	for _, p := range a.o.Kinds.Kinds() {
		s := p.Schema()
		j := s.JSONSchema()
		own, _ := j["properties"].(map[string]any)
		properties := map[string]any{}
		for name, v := range base.Properties {
			properties[name] = v
		}
		properties["kind"] = map[string]any{"enum": namesOf(s)}
		properties["category"] = map[string]any{"const": string(s.Category)}
		properties["params"], properties["secrets"] = relaxed(own["params"]), relaxed(own["secrets"])
		variant := object(properties)
		variant.Title, variant.Description = s.Label, s.Description
		variant.Required = []string{"kind", "name"}
		variant.AdditionalProperties = false
		name := "ConnectorCreate_" + string(s.Kind)
		schemas[name] = variant
		one.OneOf = append(one.OneOf, &huma.Schema{Ref: schemaPrefix + name})
		for _, n := range namesOf(s) {
			one.Discriminator.Mapping[n] = schemaPrefix + name
		}
	}
	schemas["ConnectorCreate"] = one
}

// relaxed is a kind's params or secrets where a draft may lack some.
func relaxed(part any) map[string]any {
	m, _ := part.(map[string]any)
	out := maps.Clone(m)
	delete(out, "required")
	return out
}

func namesOf(s *providers.Schema) []string {
	out := []string{string(s.Kind)}
	for _, alias := range s.Aliases {
		out = append(out, string(alias))
	}
	slices.Sort(out[1:])
	return out
}

func (a *API) openAPI(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Set(fiber.HeaderCacheControl, "no-cache")
	return c.Send(a.document)
}

// Document is the OpenAPI document, as it is served.
func (a *API) Document() []byte { return slices.Clone(a.document) }
