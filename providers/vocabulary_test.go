package providers_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/providers"
)

// complete uses every word of the vocabulary, with a value that nothing else has.
func complete() *providers.Schema {
	set, unset := providers.IsSet("mode"), false
	return &providers.Schema{
		Kind: "complete", Aliases: []providers.Kind{"z_kind_alias"}, Category: "z_category", CategoryLabel: "z-category-label",
		Label: "z-label", Icon: "z-icon", Description: "z-description", Docs: "https://z-docs.example", Status: providers.Beta,
		AuthModes: []providers.AuthMode{{Name: "z-mode", Label: "z-mode-label", Grant: true, When: &set}},
		Scopes:    []string{"z-scope"},
		Egress:    providers.Egress{Hosts: []string{"z-egress.example"}, FromParams: []string{"z_target"}, Ports: []int{47111}, TLS: "always"},
		Tests:     []providers.TestLevel{{Level: 3, Label: "z-test", SideEffects: true}},
		Imports:   []providers.ImportFormat{{Name: "z-import", Label: "z-import-label", Hint: "z-import-hint"}},
		Groups:    []providers.Group{{Name: "z-group", Label: "z-group-label", Help: "z-group-help", Collapsed: true}},
		Params: []providers.Param{
			{Name: "mode", Type: providers.Enum, Default: "z-default", Options: []providers.Option{
				{Value: "z-default", Label: "z-option-label", Warning: "z-option-warning", Deprecated: true}}},
			{Name: "z_target", Type: providers.URL, Validate: providers.Validation{Schemes: []string{"z-scheme"}}},
			{Name: "z_count", Type: providers.Int, Validate: providers.Validation{Min: providers.Limit(47112), Max: providers.Limit(47113)}},
			{Name: "z_needed", Type: providers.String, Required: true},
			{
				Name: "z_param", Aliases: []string{"z-alias"}, Type: providers.String,
				RequiredWhen: &providers.Condition{Any: []providers.Condition{providers.OneOf("mode", "z-default")}},
				VisibleWhen: &providers.Condition{All: []providers.Condition{
					providers.Equals("mode", "z-default"), {Not: &providers.Condition{Field: "z_count", Set: &unset}}}},
				Example: "z-example@z.example", Placeholder: "z-placeholder",
				Validate: providers.Validation{MinLength: 3, MaxLength: 47114, Pattern: "^z-e", PatternMessage: "z-message", Format: "mailbox"},
				Group:    "z-group", Order: 47115, Advanced: true, Label: "z-param-label", Help: "z-help", DocURL: "https://z-doc.example",
				Source: providers.SourceOperator, BindsSecrets: []string{"z_secret"}, AffectsConnection: true, Immutable: true, Deprecated: "z-instead",
			},
		},
		Secrets:  []providers.Param{{Name: "z_secret", Type: providers.String}},
		Rules:    []providers.Rule{{Type: providers.Conflicts, Field: "z_param", Fields: []string{"z_target"}, Message: "z-rule"}},
		Version:  2,
		Upgrades: []providers.Upgrade{{From: 1, Params: func(map[string]any) error { return nil }, Secrets: map[string]string{"old": "z_secret"}}},
	}
}

// Every word of the vocabulary is in the JSON Schema: a page or an editor that
// reads it must not need another source.
func TestEveryWordIsEmitted(t *testing.T) {
	t.Parallel()
	s := complete()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(s.JSONSchema())
	if err != nil {
		t.Fatal(err)
	}
	text := string(b)

	// The sample leaves no word out, one that is added later included.
	unused := map[string]bool{}
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				walk(path, v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(path, v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				f := v.Type().Field(i)
				if !f.IsExported() {
					continue
				}
				name := v.Type().Name() + "." + f.Name
				if _, seen := unused[name]; !seen {
					unused[name] = true
				}
				if !v.Field(i).IsZero() {
					unused[name] = false
				}
				walk(name, v.Field(i))
			}
		case reflect.String:
			if word := v.String(); strings.Contains(word, "z-") || strings.HasPrefix(word, "z_") {
				if quoted, _ := json.Marshal(word); !strings.Contains(text, string(quoted)) {
					t.Errorf("%s: %q is not in the JSON Schema", path, word)
				}
			}
		}
	}
	walk("", reflect.ValueOf(s))
	for name, is := range unused {
		if is {
			t.Errorf("the sample does not use %s", name)
		}
	}
	for _, want := range []string{`"x-patchbay-kind":"complete"`, `"x-patchbay-status":"beta"`, `"x-patchbay-version":2`, `"ports":[47111]`, `"tls":"always"`,
		`"minimum":47112`, `"maximum":47113`, `"minLength":3`, `"maxLength":47114`, `"x-patchbay-order":47115`, `"x-patchbay-advanced":true`,
		`"x-patchbay-affects-connection":true`, `"x-patchbay-immutable":true`, `"deprecated":true`, `"x-patchbay-source":"operator"`,
		`"x-patchbay-secret":true`, `"required":["z_needed"]`, `"grant":true`, `"side_effects":true`, `"collapsed":true`, `"x-patchbay-format":"mailbox"`,
		`"x-patchbay-visible-when":{"all":`, `"x-patchbay-required-when":{"any":`, `"set":false`, `"level":3`, `"x-patchbay-type":"url"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in the JSON Schema", want)
		}
	}
}
