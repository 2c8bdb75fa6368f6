package providers_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// fake is a provider with nothing but a schema.
type fake struct {
	providers.Base
	s *providers.Schema
}

func (f fake) Schema() *providers.Schema { return f.s }
func (f fake) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	return providers.Direct(c), nil
}

func plainSchema(kind providers.Kind, change func(*providers.Schema)) *providers.Schema {
	s := &providers.Schema{Kind: kind, Category: providers.API, Label: "Plain", Version: 1,
		Params: []providers.Param{{Name: "a", Type: providers.String}}}
	if change != nil {
		change(s)
	}
	return s
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	r, err := providers.NewRegistry(fake{s: rich()}, fake{s: plainSchema("plain", nil)})
	if err != nil {
		t.Fatal(err)
	}
	if p, ok := r.Lookup("wealthy"); !ok || p.Schema().Kind != "rich" {
		t.Error("the alias is not found")
	}
	if _, ok := r.Lookup("Rich"); ok {
		t.Error("kinds are case-sensitive")
	}
	if got := r.Suggest("rihc"); got != "rich" {
		t.Errorf("suggested %q", got)
	}
	if got := r.Kinds(); len(got) != 2 || got[0].Schema().Kind != "plain" {
		t.Errorf("kinds %v", got)
	}
	if !r.HasCategory("drawing") || r.HasCategory("none") {
		t.Error("the declared category is not known, or an undeclared one is")
	}
	if !slices.Contains(r.Categories(), providers.CategoryInfo{Category: "drawing", Label: "Drawing"}) || len(r.Categories()) != 7 {
		t.Errorf("categories %v", r.Categories())
	}
}

func TestNewRegistryRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		other *providers.Schema
		want  string
	}{
		"a kind twice":            {plainSchema("rich", nil), `"rich"`},
		"a kind that is an alias": {plainSchema("wealthy", nil), `"wealthy" of "wealthy" belongs to "rich"`},
		"another label":           {plainSchema("p", func(s *providers.Schema) { s.Category, s.CategoryLabel = "drawing", "Art" }), "another label"},
		"an invalid one":          {plainSchema("p", func(s *providers.Schema) { s.Label = "" }), "label is missing"},
	} {
		if _, err := providers.NewRegistry(fake{s: rich()}, fake{s: c.other}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCategoryNeitherAllocatesNorAliases(t *testing.T) {
	r := registry(t)
	buf := []byte("storage")
	name := unsafe.String(&buf[0], len(buf)) // as a server hands out its request buffer
	if n := testing.AllocsPerRun(100, func() {
		if _, ok := r.Category(name); !ok {
			t.Fatal("storage is not declared")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	c, _ := r.Category(name)
	copy(buf, "XXXXXXX")
	if c != providers.Storage {
		t.Errorf("the category became %q with its request's buffer", c)
	}
}

func TestRegister(t *testing.T) {
	p := fake{s: plainSchema("registered_once", nil)}
	providers.Register(p)
	if _, ok := registry(t).Lookup("registered_once"); !ok {
		t.Error("the built-in registry lacks a registered kind")
	}
	for name, bad := range map[string]providers.Provider{
		"nil": nil, "a duplicate": p, "an invalid one": fake{s: plainSchema("Bad", nil)},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			providers.Register(bad)
		}()
	}
}

// The fields that `sidecar kinds --json` promises.
func TestDescribe(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(registry(t).Describe())
	if err != nil {
		t.Fatal(err)
	}
	var kinds []struct {
		Kind, Category, Label string
		Params                []struct {
			Name, Type       string
			Required, Secret bool
		}
	}
	if err := json.Unmarshal(b, &kinds); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(kinds, func(k struct {
		Kind, Category, Label string
		Params                []struct {
			Name, Type       string
			Required, Secret bool
		}
	}) bool {
		return k.Kind == "s3"
	})
	if i < 0 || kinds[i].Category != "storage" || kinds[i].Label == "" || len(kinds[i].Params) != 8 {
		t.Fatalf("%s", b)
	}
	if p := kinds[i].Params[0]; p.Name != "bucket" || p.Type != "string" || !p.Required || p.Secret {
		t.Errorf("the first param is %+v", p)
	}
	if p := kinds[i].Params[3]; p.Name != "access_key_id" || !p.Secret {
		t.Errorf("the fourth param is %+v: layout order", p)
	}
}

func TestSchemaValidateFindsEverything(t *testing.T) {
	t.Parallel()
	circle := func(f string) *providers.Condition { c := providers.IsSet(f); return &c }
	str := func(name string) providers.Param { return providers.Param{Name: name, Type: providers.String} }
	for want, change := range map[string]func(*providers.Schema){
		"a name consists of": func(s *providers.Schema) { s.Params[0].Name = "A" },
		"declared twice":     func(s *providers.Schema) { s.Secrets = []providers.Param{str("a")} },
		"unknown type":       func(s *providers.Schema) { s.Params[0].Type = "colour" },
		"is empty or taken":  func(s *providers.Schema) { s.Params[0].Aliases = []string{"a"} },
		"is not declared":    func(s *providers.Schema) { s.Params[0].Group = "g" },
		"a secret is text":   func(s *providers.Schema) { s.Secrets = []providers.Param{{Name: "b", Type: providers.Int}} },
		"a secret has no default": func(s *providers.Schema) {
			s.Secrets = []providers.Param{{Name: "b", Type: providers.String, Default: "x"}}
		},
		"options belong to":        func(s *providers.Schema) { s.Params[0].Type = providers.Enum },
		"required excludes":        func(s *providers.Schema) { s.Params[0].Required, s.Params[0].Default = true, "x" },
		"pattern: error":           func(s *providers.Schema) { s.Params[0].Validate.Pattern = "(" },
		"needs a message":          func(s *providers.Schema) { s.Params[0].Validate.Pattern = "a" },
		"unknown format":           func(s *providers.Schema) { s.Params[0].Validate.Format = "iban" },
		"default: must be text":    func(s *providers.Schema) { s.Params[0].Default = 1 },
		"min and max need":         func(s *providers.Schema) { s.Params[0].Validate.Min = providers.Limit(1) },
		"binds \"x\"":              func(s *providers.Schema) { s.Params[0].BindsSecrets = []string{"x"} },
		"goes in a circle":         func(s *providers.Schema) { s.Params[0].VisibleWhen = circle("a") },
		"names \"x\", which is no": func(s *providers.Schema) { s.Params[0].VisibleWhen = circle("x") },
		"exactly one of all, any":  func(s *providers.Schema) { s.Params[0].VisibleWhen = &providers.Condition{} },
		"a value it can't have":    func(s *providers.Schema) { c := providers.Equals("a", 1); s.Params[0].RequiredWhen = &c },
		"may ask for set only": func(s *providers.Schema) {
			c := providers.Equals("b", "x")
			s.Params[0].RequiredWhen = &c
			s.Secrets = []providers.Param{str("b")}
		},
		"rule requires names \"x\"": func(s *providers.Schema) {
			s.Rules = []providers.Rule{{Type: providers.Requires, Field: "a", Fields: []string{"x"}}}
		},
		"wants two or more": func(s *providers.Schema) {
			s.Rules = []providers.Rule{{Type: providers.ExactlyOneOf, Fields: []string{"a"}}}
		},
		"version 2 wants 1 upgrades": func(s *providers.Schema) { s.Version = 2 },
		"has no label":               func(s *providers.Schema) { s.Category = "own" },
		"egress names \"a\"":         func(s *providers.Schema) { s.Egress.FromParams = []string{"a"} },
		"import format \"x\"":        func(s *providers.Schema) { s.Imports = []providers.ImportFormat{{Name: "x"}, {Name: "x"}} },
		"group \"\": its name":       func(s *providers.Schema) { s.Groups = []providers.Group{{Label: "G"}} },
		"auth mode \"x\"": func(s *providers.Schema) {
			s.AuthModes = []providers.AuthMode{{Name: "x", When: circle("a")}, {Name: "x", When: circle("a")}}
		},
		"each needs a condition": func(s *providers.Schema) {
			s.AuthModes = []providers.AuthMode{{Name: "x"}, {Name: "y", When: circle("a")}}
		},
		"scope \"\"":            func(s *providers.Schema) { s.Scopes = []string{""} },
		"docs: \"javascript:":   func(s *providers.Schema) { s.Docs = "javascript:alert(1)" },
		"doc_url: \"/x\"":       func(s *providers.Schema) { s.Params[0].DocURL = "/x" },
		"unknown tls \"maybe\"": func(s *providers.Schema) { s.Egress.TLS = "maybe" },
		"port 0 is none":        func(s *providers.Schema) { s.Egress.Ports = []int{0} },
		"\"*\" is no host":      func(s *providers.Schema) { s.Egress.Hosts = []string{"*"} },
		"bound secret \"b\"": func(s *providers.Schema) {
			s.Secrets = []providers.Param{str("b")}
			s.Params[0].BindsSecrets = []string{"b", "b"}
		},
		"option \"o\": its name": func(s *providers.Schema) {
			s.Params[0].Type, s.Params[0].Options = providers.Enum, []providers.Option{{Value: "o"}, {Value: "o"}}
		},
		"minimum is above": func(s *providers.Schema) {
			s.Params[0].Validate = providers.Validation{MinLength: 3, MaxLength: 2}
		},
		"below zero": func(s *providers.Schema) { s.Params[0].Validate.MinLength = -1 },
		"lengths need text": func(s *providers.Schema) {
			s.Params[0].Type, s.Params[0].Validate.MinLength = providers.Int, 1
		},
		"pattern and format need text": func(s *providers.Schema) {
			s.Params[0].Type, s.Params[0].Validate.Format = providers.Int, "json"
		},
		"message needs the pattern": func(s *providers.Schema) { s.Params[0].Validate.PatternMessage = "m" },
		"schemes need":              func(s *providers.Schema) { s.Params[0].Validate.Schemes = []string{"ftp"} },
		"default: write it as 1m0s": func(s *providers.Schema) {
			s.Params[0].Type, s.Params[0].Default = providers.Duration, "60s"
		},
		"in another form than Decode's: 1m0s": func(s *providers.Schema) {
			c := providers.Equals("a", "60s")
			s.Params = append(s.Params, str("b"))
			s.Params[0].Type, s.Params[1].VisibleWhen = providers.Duration, &c
		},
		"levels are 1, 2 and 3": func(s *providers.Schema) { s.Tests = []providers.TestLevel{{Level: 4}} },
		"test level 1":          func(s *providers.Schema) { s.Tests = []providers.TestLevel{{Level: 1}, {Level: 1}} },
		"unknown status":        func(s *providers.Schema) { s.Status = "fine" },
	} {
		if err := plainSchema("plain", change).Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := plainSchema("plain", nil).Validate(); err != nil {
		t.Error(err)
	}
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	s := plainSchema("grown", func(s *providers.Schema) {
		s.Version = 3
		s.Params[0].Name = "host"
		s.Secrets = []providers.Param{{Name: "key", Type: providers.String}}
		s.Upgrades = []providers.Upgrade{
			{From: 1, Params: func(p map[string]any) error { p["server"] = p["hostname"]; delete(p, "hostname"); return nil },
				Secrets: map[string]string{"pass": "key"}},
			{From: 2, Params: func(p map[string]any) error { p["host"] = p["server"]; delete(p, "server"); return nil }},
		}
	})
	old := providers.Input{Params: map[string]any{"hostname": "h"}, Secrets: secret.Map{"pass": secret.New("sesame")}}
	c, err := s.Decode(old, providers.DecodeOptions{Version: 1})
	if err != nil || c.Params["host"] != "h" || c.Secrets["key"].Reveal() != "sesame" {
		t.Errorf("%v %v %v", c.Params, c.Secrets.Names(), err)
	}
	if old.Params["hostname"] != "h" || !old.Secrets["pass"].IsSet() {
		t.Error("the upgrade wrote into its input")
	}
	if _, err := s.Decode(old, providers.DecodeOptions{}); err == nil {
		t.Error("an old config passed as a present one")
	}
	if _, err := s.Decode(old, providers.DecodeOptions{Version: 4}); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("a newer version: %v", err)
	}
}
