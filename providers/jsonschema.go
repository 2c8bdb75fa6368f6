package providers

import (
	"fmt"
	"slices"
)

// JSONSchema returns the schema as JSON Schema 2020-12 of the object
// {"params": {...}, "secrets": {...}} that a create takes, so that pointers
// into the schema's instances are those of Decode. What JSON Schema can't say
// is in x-patchbay-* keywords. Marshalling the result gives the same bytes
// every time. The result shares parts with the schema: nobody modifies it.
//
// It is for forms and editors and not the judge: Decode also knows formats,
// masks and stored secrets, and takes null and empty text as not given.
func (s *Schema) JSONSchema() map[string]any {
	j := jsonSchema{s.index()}
	params := map[string]any{"type": "object", "additionalProperties": false}
	secrets := map[string]any{"type": "object", "additionalProperties": false}
	paramProps, secretProps := map[string]any{}, map[string]any{}
	var paramNeeds, secretNeeds, rootNeeds, all []any
	notices := []any{}
	for _, f := range j.ix.fields {
		if f.Type == Notice {
			notices = append(notices, annotate(map[string]any{"name": f.Name}, f))
			continue
		}
		if f.Secret {
			secretProps[f.Name] = property(f)
		} else {
			paramProps[f.Name] = property(f)
		}
		switch {
		case f.Required && f.VisibleWhen == nil && f.Secret:
			secretNeeds = append(secretNeeds, f.Name)
		case f.Required && f.VisibleWhen == nil:
			paramNeeds = append(paramNeeds, f.Name)
		case f.Required:
			all = append(all, ifThen(j.condition(f.VisibleWhen), j.needs(f.Name)))
		case f.RequiredWhen != nil && f.Default == nil:
			when := []any{j.condition(f.RequiredWhen)}
			if f.VisibleWhen != nil {
				when = append(when, j.condition(f.VisibleWhen))
			}
			all = append(all, ifThen(map[string]any{"allOf": when}, j.needs(f.Name)))
		}
	}
	for _, r := range s.Rules {
		all = append(all, j.rule(r))
	}
	params["properties"], secrets["properties"] = paramProps, secretProps
	if paramNeeds != nil {
		params["required"], rootNeeds = paramNeeds, append(rootNeeds, "params")
	}
	if secretNeeds != nil {
		secrets["required"], rootNeeds = secretNeeds, append(rootNeeds, "secrets")
	}
	root := map[string]any{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"$id":     fmt.Sprintf("https://patchbay.dev/kinds/%s/%d", s.Kind, s.Version),
		"title":   s.Label, "type": "object", "additionalProperties": false,
		"properties":              map[string]any{"params": params, "secrets": secrets},
		"x-patchbay-kind":         string(s.Kind),
		"x-patchbay-category":     string(s.Category),
		"x-patchbay-version":      s.Version,
		"x-patchbay-egress":       s.Egress,
		"x-patchbay-field-order":  j.order(),
		"x-patchbay-groups":       append([]Group{}, s.Groups...),
		"x-patchbay-auth-modes":   append([]AuthMode{}, s.AuthModes...),
		"x-patchbay-test-levels":  append([]TestLevel{}, s.Tests...),
		"x-patchbay-imports":      append([]ImportFormat{}, s.Imports...),
		"x-patchbay-rules":        append([]Rule{}, s.Rules...),
		"x-patchbay-notices":      notices,
		"x-patchbay-kind-aliases": append([]Kind{}, s.Aliases...),
	}
	set(root, "description", s.Description)
	set(root, "x-patchbay-category-label", s.CategoryLabel)
	set(root, "x-patchbay-docs", s.Docs)
	set(root, "x-patchbay-icon", s.Icon)
	set(root, "x-patchbay-status", string(s.Status))
	if len(s.Scopes) > 0 {
		root["x-patchbay-scopes"] = slices.Clone(s.Scopes)
	}
	if rootNeeds != nil {
		root["required"] = rootNeeds
	}
	if all != nil {
		root["allOf"] = all
	}
	return root
}

// set adds text that isn't empty.
func set(m map[string]any, key, value string) {
	if value != "" {
		m[key] = value
	}
}

// property is the schema of one field's value.
func property(f Field) map[string]any {
	m := typeOf(f)
	v := f.Validate
	if v.Min != nil {
		m["minimum"] = *v.Min
	}
	if v.Max != nil {
		m["maximum"] = *v.Max
	}
	lengths := [2]string{"minLength", "maxLength"}
	switch f.Type {
	case List, MultiEnum:
		lengths = [2]string{"minItems", "maxItems"}
	case MapOf:
		lengths = [2]string{"minProperties", "maxProperties"}
	}
	if v.MinLength > 0 {
		m[lengths[0]] = v.MinLength
	} else if f.Type.textual() && f.Type != Enum {
		m[lengths[0]] = 1 // empty text is not given
	}
	if v.MaxLength > 0 {
		m[lengths[1]] = v.MaxLength
	} else if f.Type.textual() && f.Type != Enum {
		m[lengths[1]] = f.Type.maxLength()
	}
	set(m, "pattern", v.Pattern)
	if v.PatternMessage != "" {
		m["x-patchbay-messages"] = map[string]any{"pattern": v.PatternMessage}
	}
	set(m, "x-patchbay-format", v.Format)
	if len(v.Schemes) > 0 {
		m["x-patchbay-schemes"] = slices.Clone(v.Schemes)
	}
	if f.Default != nil {
		m["default"] = f.Default
	}
	return annotate(m, f)
}

func typeOf(f Field) map[string]any {
	if f.Secret {
		return map[string]any{"type": "string", "writeOnly": true, "x-patchbay-secret": true}
	}
	switch f.Type {
	case Int:
		return map[string]any{"type": "integer"}
	case Port:
		return map[string]any{"type": "integer", "minimum": 1, "maximum": 65535}
	case Bytes:
		return map[string]any{"type": []any{"integer", "string"}, "minimum": 0}
	case Number:
		return map[string]any{"type": "number"}
	case Bool:
		return map[string]any{"type": "boolean"}
	case Enum:
		return map[string]any{"type": "string", "enum": options(f.Options)}
	case MultiEnum:
		return map[string]any{"type": "array", "uniqueItems": true,
			"items": map[string]any{"type": "string", "enum": options(f.Options)}}
	case List:
		return map[string]any{"type": "array"}
	case MapOf:
		return map[string]any{"type": "object"}
	case JSON:
		return map[string]any{}
	case URL:
		return map[string]any{"type": "string", "format": "uri"}
	case EmailAddr:
		if f.Validate.Format == "" {
			return map[string]any{"type": "string", "format": "email"}
		}
	}
	return map[string]any{"type": "string"}
}

func options(os []Option) []any {
	values := make([]any, len(os))
	for i, o := range os {
		values[i] = o.Value
	}
	return values
}

// annotate adds what is for people and pages.
func annotate(m map[string]any, f Field) map[string]any {
	m["x-patchbay-type"] = string(f.Type)
	set(m, "title", f.Label)
	set(m, "description", f.Help)
	set(m, "x-patchbay-group", f.Group)
	set(m, "x-patchbay-placeholder", f.Placeholder)
	set(m, "x-patchbay-doc-url", f.DocURL)
	set(m, "x-patchbay-deprecated", f.Deprecated)
	set(m, "x-patchbay-source", string(f.Source))
	if f.Example != nil {
		m["examples"] = []any{f.Example}
	}
	for key, on := range map[string]bool{
		"deprecated": f.Deprecated != "", "x-patchbay-advanced": f.Advanced,
		"x-patchbay-affects-connection": f.AffectsConnection, "x-patchbay-immutable": f.Immutable,
	} {
		if on {
			m[key] = true
		}
	}
	if f.Order != 0 {
		m["x-patchbay-order"] = f.Order
	}
	if len(f.Aliases) > 0 {
		m["x-patchbay-aliases"] = slices.Clone(f.Aliases)
	}
	if len(f.Options) > 0 {
		m["x-patchbay-options"] = slices.Clone(f.Options)
	}
	if len(f.BindsSecrets) > 0 {
		m["x-patchbay-binds-secrets"] = slices.Clone(f.BindsSecrets)
	}
	if f.VisibleWhen != nil {
		m["x-patchbay-visible-when"] = f.VisibleWhen
	}
	if f.RequiredWhen != nil {
		m["x-patchbay-required-when"] = f.RequiredWhen
	}
	return m
}

// jsonSchema turns conditions and rules into applicators on the root object.
type jsonSchema struct{ ix *index }

func (j jsonSchema) order() []any {
	names := make([]any, 0, len(j.ix.fields))
	for _, f := range j.ix.fields {
		names = append(names, f.Name)
	}
	return names
}

func ifThen(when, then map[string]any) map[string]any {
	return map[string]any{"if": when, "then": then}
}

// needs says that the field is there.
func (j jsonSchema) needs(name string) map[string]any {
	section := "params"
	if j.ix.secrets[name] != nil {
		section = "secrets"
	}
	return map[string]any{
		"required":   []any{section},
		"properties": map[string]any{section: map[string]any{"required": []any{name}}},
	}
}

// given says that the field counts as given: visible, and there or defaulted.
func (j jsonSchema) given(name string) map[string]any {
	p := j.ix.field(name)
	var parts []any
	if p.Default == nil {
		parts = append(parts, j.needs(name))
	}
	if p.VisibleWhen != nil {
		parts = append(parts, j.condition(p.VisibleWhen))
	}
	if parts == nil {
		return map[string]any{}
	}
	return map[string]any{"allOf": parts}
}

func (j jsonSchema) condition(c *Condition) map[string]any {
	list := func(cs []Condition) []any {
		out := make([]any, len(cs))
		for i := range cs {
			out[i] = j.condition(&cs[i])
		}
		return out
	}
	switch {
	case len(c.All) > 0:
		return map[string]any{"allOf": list(c.All)}
	case len(c.Any) > 0:
		return map[string]any{"anyOf": list(c.Any)}
	case c.Not != nil:
		return map[string]any{"not": j.condition(c.Not)}
	case c.Set != nil && *c.Set:
		return j.given(c.Field)
	case c.Set != nil:
		return map[string]any{"not": j.given(c.Field)}
	}
	values := c.In
	if values == nil {
		values = []any{c.Eq}
	}
	p := j.ix.params[c.Field]
	params := map[string]any{"properties": map[string]any{c.Field: map[string]any{"enum": slices.Clone(values)}}}
	has := map[string]any{"properties": map[string]any{"params": params}}
	// Without the key the value is the default, where that matches.
	if !slices.ContainsFunc(values, func(v any) bool { return p.Default != nil && scalarEqual(p.Default, v) }) {
		params["required"], has["required"] = []any{c.Field}, []any{"params"}
	}
	if p.VisibleWhen != nil {
		return map[string]any{"allOf": []any{has, j.condition(p.VisibleWhen)}}
	}
	return has
}

func (j jsonSchema) rule(r Rule) map[string]any {
	given := make([]any, len(r.Fields))
	for i, name := range r.Fields {
		given[i] = j.given(name)
	}
	switch r.Type {
	case ExactlyOneOf:
		return map[string]any{"oneOf": given}
	case AtLeastOneOf:
		return map[string]any{"anyOf": given}
	case Requires:
		return ifThen(j.given(r.Field), map[string]any{"allOf": given})
	default:
		return ifThen(j.given(r.Field), map[string]any{"not": map[string]any{"anyOf": given}})
	}
}
