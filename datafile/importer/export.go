package importer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Export writes one tenant as a data file: its own record, its organizations and
// its living connectors. Secrets are "$ENV:<EXTERNAL_ID>_<PARAM>" placeholders.
// Importing it into the same store, with the variables set to the same values,
// changes nothing. A connector that the API made goes by its own id.
// Errors: fault.NotFound for an unknown tenant; what the store returns.
func (im *Importer) Export(ctx context.Context, id tenant.ID) (*datafile.File, error) {
	reader := im.Store.Tenant(id)
	t, err := reader.Get(ctx)
	if err != nil {
		return nil, fmt.Errorf("export tenant %s: %w", id, err)
	}
	orgs, err := reader.Organizations(ctx, connector.OrganizationFilter{})
	if err != nil {
		return nil, fmt.Errorf("export organizations of %s: %w", id, err)
	}
	connectors, err := reader.List(ctx, connector.Filter{})
	if err != nil {
		return nil, fmt.Errorf("export connectors of %s: %w", id, err)
	}
	tenantRecord := recordID(t.ExternalID, datafile.ModelTenant, id.String())
	out := &datafile.File{Name: id.String(), Records: []datafile.Record{{
		ID: tenantRecord, Model: datafile.ModelTenant, NoUpdate: t.NoUpdate,
		Fields: []datafile.Field{textField("key", id.String()), textField("name", t.Name), textField("status", string(t.Status))},
	}}}
	orgRecords := map[tenant.OrganizationID]string{}
	for _, o := range orgs {
		orgRecords[o.ID] = recordID(o.ExternalID, datafile.ModelOrganization, o.ID.String())
		out.Records = append(out.Records, datafile.Record{
			ID: orgRecords[o.ID], Model: datafile.ModelOrganization, NoUpdate: o.NoUpdate,
			Fields: []datafile.Field{
				textField("key", o.ID.String()), textField("name", o.Name),
				refField("tenant_id", tenantRecord), boolField("active", o.Active),
			},
		})
	}
	names := placeholders{}
	for i := range connectors {
		c := &connectors[i]
		r := datafile.Record{ID: label(c), Model: datafile.ModelConnector, NoUpdate: c.NoUpdate, Fields: []datafile.Field{
			textField("name", c.Name), textField("category", string(c.Category)), textField("kind", string(c.Kind)),
			refField("tenant_id", tenantRecord),
		}}
		if !c.Organization.IsZero() {
			ref, ok := orgRecords[c.Organization]
			if !ok {
				ref = datafile.ModelOrganization + "." + c.Organization.String()
			}
			r.Fields = append(r.Fields, refField("organization_id", ref))
		}
		r.Fields = append(r.Fields, boolField("active", c.Active), boolField("is_default", c.Default))
		if c.BlockPinned {
			r.Fields = append(r.Fields, boolField("block_pinned", true))
		}
		config := map[string]any{}
		for name, p := range c.Params {
			if p.Value != nil { // one that was cleared is not set
				config[name] = escapeAll(p.Value)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(c.Secrets)) {
			config[name] = "$ENV:" + names.of(label(c), name)
		}
		r.Fields = append(r.Fields, datafile.Field{Name: "config", Value: datafile.Value{Form: datafile.Literal, Literal: config}})
		out.Records = append(out.Records, r)
	}
	return out, nil
}

// recordID is the external id, or the form that an import reads as the id itself.
func recordID(external, model, id string) string {
	if external != "" {
		return external
	}
	return model + "." + id
}

func textField(name, value string) datafile.Field {
	return datafile.Field{Name: name, Value: datafile.Value{Form: datafile.Text, Text: escape(value)}}
}

func refField(name, target string) datafile.Field {
	return datafile.Field{Name: name, Value: datafile.Value{Form: datafile.Ref, Text: target}}
}

func boolField(name string, value bool) datafile.Field {
	return datafile.Field{Name: name, Value: datafile.Value{Form: datafile.Literal, Literal: value}}
}

// escapeAll protects text that an import would take for a placeholder.
func escapeAll(v any) any {
	switch v := v.(type) {
	case string:
		return escape(v)
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = escapeAll(e)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = escapeAll(e)
		}
		return out
	}
	return v
}

// placeholders gives out variable names, each once.
type placeholders map[string]bool

// of returns <EXTERNAL_ID>_<PARAM> in upper case, with "_" for what a variable
// can't hold. Two ids that differ only there get a number.
func (p placeholders) of(id, param string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, id+"_"+param)
	if name[0] >= '0' && name[0] <= '9' {
		name = "CONNECTOR_" + name // a variable's name can't start with a digit
	}
	unique := name
	for n := 2; p[unique]; n++ {
		unique = name + "_" + strconv.Itoa(n)
	}
	p[unique] = true
	return unique
}
