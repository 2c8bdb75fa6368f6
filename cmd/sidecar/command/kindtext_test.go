package command

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/providers"
)

// The record that `sidecar kinds KIND` prints is for copying: as it is, with its
// variables set, it imports and answers.
func TestTheExampleOfEachKindImports(t *testing.T) {
	t.Parallel()
	kinds, err := loadKinds(&config.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := newDev(t)
	d.start(t, nil)
	for _, p := range kinds.Kinds() {
		s := p.Schema()
		t.Run(string(s.Kind), func(t *testing.T) {
			text := command(t, nil, "kinds", string(s.Kind)).ok(t).out
			_, record, found := strings.Cut(text, "In a data file\n")
			if !found {
				t.Fatal(text)
			}
			record = strings.Replace(record, "ORGANIZATION", "hq", 1)
			file := write(t, filepath.Join(t.TempDir(), "record.xml"),
				`<patchbay><record id="t" model="gateway.tenant"><field name="key">`+string(s.Kind)+`</field><field name="name">T</field></record>`+record+`</patchbay>`)
			var env []string
			for _, m := range regexp.MustCompile(`\$ENV:([A-Z0-9_]+)`).FindAllStringSubmatch(record, -1) {
				value := "a-secret-of-the-example"
				switch {
				case strings.HasSuffix(m[1], "_JSON"):
					value = "{}"
				case strings.Contains(m[1], "SLACK"):
					value = "xoxb-1-a-token"
				}
				env = append(env, m[1]+"="+value)
			}
			command(t, env, "import", "--data-dir", d.dir, "--create-organizations", file).ok(t)
			for _, f := range s.Fields() {
				if !strings.Contains(text, f.Name) {
					t.Errorf("%s is not shown", f.Name)
				}
			}
		})
	}
}

// A terminal that has to break a row mixes up the table's columns.
func TestKindTextFitsATerminal(t *testing.T) {
	t.Parallel()
	kinds, err := loadKinds(&config.Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range kinds.Kinds() {
		var out bytes.Buffer
		if err := printKind(&out, p.Schema()); err != nil {
			t.Fatal(err)
		}
		table, _, _ := strings.Cut(out.String(), "\nConnection test\n")
		for line := range strings.Lines(table) {
			if utf8.RuneCountInString(line) > 132 {
				t.Errorf("%s: a line of %d letters: %s", p.Schema().Kind, utf8.RuneCountInString(line), line)
			}
		}
		for _, f := range p.Schema().Fields() {
			for _, alias := range f.Aliases {
				if !strings.Contains(table, alias) {
					t.Errorf("%s: %s does not show its alias %s", p.Schema().Kind, f.Name, alias)
				}
			}
		}
		if !strings.Contains(table, "\nConnects to ") {
			t.Errorf("%s does not say what a firewall has to let through", p.Schema().Kind)
		}
		if grant := slices.ContainsFunc(p.Schema().AuthModes, func(m providers.AuthMode) bool { return m.Grant }); grant != strings.Contains(table, "/oauth/start") {
			t.Errorf("%s: how an account is connected is said: %t", p.Schema().Kind, !grant)
		}
	}
}

func TestKindTextOfAllConditions(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := everyCondition()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := printKind(&out, s); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"when a is x", "only when a is x or y", "when a is set and (b is not set or a is not x)", "only when not (a is set)",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// everyCondition is a kind that uses every form of a condition.
func everyCondition() *providers.Schema {
	no := false
	ref := func(c providers.Condition) *providers.Condition { return &c }
	return &providers.Schema{
		Kind: "conditions", Category: providers.API, Label: "Conditions & more", Version: 1,
		Params: []providers.Param{
			{Name: "a", Type: providers.String, Label: "A"},
			{Name: "b", Type: providers.String, Label: "B"},
			{Name: "c", Type: providers.String, Label: "C", RequiredWhen: ref(providers.Equals("a", "x"))},
			{Name: "d", Type: providers.String, Label: "D", VisibleWhen: ref(providers.OneOf("a", "x", "y"))},
			{Name: "e", Type: providers.String, Label: "E", RequiredWhen: &providers.Condition{All: []providers.Condition{
				providers.IsSet("a"),
				{Any: []providers.Condition{{Field: "b", Set: &no}, {Not: ref(providers.Equals("a", "x"))}}},
			}}},
			{Name: "f", Type: providers.String, Label: "F", VisibleWhen: &providers.Condition{Not: ref(providers.IsSet("a"))}},
		},
	}
}
