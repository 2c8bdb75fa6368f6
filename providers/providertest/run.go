package providertest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// Cases are a kind's examples. Values are in the canonical Go types.
type Cases struct {
	// Minimal holds what is required and nothing else.
	Minimal providers.Input
	// Full sets every param and secret that goes together, with distinctive
	// secrets of at least 8 characters: the suite searches outputs for them.
	Full providers.Input
	// Bad are configs that Decode refuses, with the problems as
	// "pointer code", in order.
	Bad map[string]Bad
	// Imports are raw maps with what ImportConfig makes of them.
	Imports map[string]Import
	// Withheld names config that the backend leaves out on purpose (the client
	// secret of an OAuth2 kind, say).
	Withheld []string
	// Test runs TestConnection on Full too and searches its report. The test
	// must fail fast, or be a no-op, without a server.
	Test bool
	// Tokens are the configs' token source, for kinds that mint; see
	// providers.Config.
	Tokens providers.TokenSource
}

// decode is Decode of an example, with the case's token source.
func (c Cases) decode(p providers.Provider, in providers.Input) (providers.Config, error) {
	cfg, err := p.Schema().Decode(in, providers.DecodeOptions{})
	cfg.Tokens = c.Tokens
	return cfg, err
}

// Bad is a refused config.
type Bad struct {
	Input providers.Input
	Want  []string // "/params/port type"
}

// Import is an input of ImportConfig and its result.
type Import struct {
	Raw, Want map[string]any
}

// Run runs the suite.
func Run(t *testing.T, p providers.Provider, c Cases) {
	t.Helper()
	t.Run("Schema", func(t *testing.T) { testSchema(t, p) })
	t.Run("JSONSchema", func(t *testing.T) { testJSONSchema(t, p, c) })
	t.Run("Minimal", func(t *testing.T) { testConfig(t, p, c, c.Minimal) })
	t.Run("Full", func(t *testing.T) { testConfig(t, p, c, c.Full) })
	t.Run("Required", func(t *testing.T) { testRequired(t, p, c) })
	t.Run("Unknown", func(t *testing.T) { testUnknown(t, p, c) })
	t.Run("Bad", func(t *testing.T) { testBad(t, p, c) })
	t.Run("Import", func(t *testing.T) { testImport(t, p, c) })
	t.Run("Secrets", func(t *testing.T) { testSecrets(t, p, c) })
	t.Run("Canaries", func(t *testing.T) { testCanaries(t, p, c) })
	t.Run("Concurrency", func(t *testing.T) { testConcurrency(t, p, c) })
}

func testSchema(t *testing.T, p providers.Provider) {
	s := p.Schema()
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if p.Schema() != s {
		t.Error("Schema returns another pointer each time")
	}
	for _, f := range s.Fields() {
		if f.Label == "" {
			t.Errorf("%s has no label: the form would show its name", f.Name)
		}
		if f.Secret && !f.AffectsConnection {
			t.Errorf("%s is a secret that affects no connection: why is it there?", f.Name)
		}
	}
	// Whoever can change the target without the secret can collect the secret.
	for _, name := range s.Egress.FromParams {
		if len(s.Secrets) > 0 && len(s.BoundSecrets(name)) == 0 {
			t.Errorf("%s names the target and binds no secret", name)
		}
	}
}

// instance is in as the JSON that a client would send.
func instance(t *testing.T, in providers.Input) any {
	t.Helper()
	secrets := map[string]any{}
	for name, v := range in.Secrets {
		secrets[name] = v.Reveal()
	}
	b, err := json.Marshal(map[string]any{"params": in.Params, "secrets": secrets})
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Compile compiles a kind's JSON Schema, as an editor would.
func Compile(t testing.TB, s *providers.Schema) *jsonschema.Schema {
	t.Helper()
	b, err := json.Marshal(s.JSONSchema())
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("kind.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("kind.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

func testJSONSchema(t *testing.T, p providers.Provider, c Cases) {
	compiled := Compile(t, p.Schema())
	for name, in := range map[string]providers.Input{"minimal": c.Minimal, "full": c.Full} {
		in.Params = orEmpty(in.Params)
		if err := compiled.Validate(instance(t, in)); err != nil {
			t.Errorf("the %s example: %v", name, err)
		}
	}
	first, _ := json.Marshal(p.Schema().JSONSchema())
	for range 10 {
		if again, _ := json.Marshal(p.Schema().JSONSchema()); !bytes.Equal(first, again) {
			t.Fatal("the bytes differ from one time to the next")
		}
	}
}

func testConfig(t *testing.T, p providers.Provider, c Cases, in providers.Input) {
	before := maps.Clone(in.Params)
	cfg, err := c.decode(p, in)
	if err != nil {
		t.Fatal(err)
	}
	again, err := p.Schema().Decode(providers.Input{Params: cfg.Params, Secrets: cfg.Secrets}, providers.DecodeOptions{})
	if err != nil {
		t.Fatalf("decode of what decode returned: %v", err)
	}
	if !reflect.DeepEqual(again.Params, cfg.Params) || !again.Secrets.Equal(cfg.Secrets) {
		t.Errorf("decode is not idempotent: %v, then %v", cfg.Params, again.Params)
	}
	b, err := p.Backend(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for name := range b.Params {
		if _, both := b.Secrets[name]; both {
			t.Errorf("%s is a param and a secret of the backend", name)
		}
		if p.Schema().IsSecret(name) {
			t.Errorf("the secret %s is among the backend's params", name)
		}
	}
	for name, want := range cfg.Params {
		if got, ok := b.Params[name]; !slices.Contains(c.Withheld, name) && (!ok || !reflect.DeepEqual(got, want)) {
			t.Errorf("the backend's %s is not the config's", name)
		}
	}
	for name, want := range cfg.Secrets {
		if !slices.Contains(c.Withheld, name) && !b.Secrets[name].Equal(want) {
			t.Errorf("the backend's secret %s is not the config's", name)
		}
	}
	testToken(t, c, b)
	// A provider that writes into what it was given would change a cache entry.
	clear(b.Params)
	clear(b.Secrets)
	if len(again.Params) != len(cfg.Params) || len(again.Secrets) != len(cfg.Secrets) || !reflect.DeepEqual(before, in.Params) {
		t.Error("the backend shares its maps with the config, or decode changed its input")
	}
}

// testToken looks for the token, and for when it ends, in the backend of a kind
// that mints.
func testToken(t *testing.T, c Cases, b providers.Backend) {
	if c.Tokens == nil {
		if !b.ExpiresAt.IsZero() {
			t.Error("a backend without a token ends")
		}
		return
	}
	want, err := c.Tokens.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !b.Secrets["access_token"].Equal(want.Access) || !b.ExpiresAt.Equal(want.ExpiresAt) || !b.RefreshAt.Equal(want.RefreshAt) {
		t.Errorf("the backend's token or its end are not the source's: ends %v, refresh %v", b.ExpiresAt, b.RefreshAt)
	}
}

// testRequired takes each required field away and looks for exactly that problem.
func testRequired(t *testing.T, p providers.Provider, c Cases) {
	for _, f := range p.Schema().Fields() {
		if !f.Required || f.VisibleWhen != nil {
			continue
		}
		in := providers.Input{Params: maps.Clone(c.Minimal.Params), Secrets: c.Minimal.Secrets.Clone()}
		want := "/params/" + f.Name + " required"
		if f.Secret {
			want = "/secrets/" + f.Name + " required"
		}
		delete(in.Params, f.Name)
		delete(in.Secrets, f.Name)
		_, err := p.Schema().Decode(in, providers.DecodeOptions{})
		if got := problems(err); !slices.Contains(got, want) {
			t.Errorf("without %s: %v", f.Name, got)
		}
		if f.Secret {
			if _, err := p.Schema().Decode(in, providers.DecodeOptions{Configured: []string{f.Name}}); err != nil {
				t.Errorf("with %s stored already: %v", f.Name, err)
			}
		}
	}
}

func testUnknown(t *testing.T, p providers.Provider, c Cases) {
	for _, f := range p.Schema().Fields() {
		if f.Type == providers.Notice {
			continue
		}
		in := providers.Input{Params: orEmpty(maps.Clone(c.Minimal.Params)), Secrets: c.Minimal.Secrets}
		typo := f.Name + "x"
		in.Params[typo] = "value-canary"
		_, err := p.Schema().Decode(in, providers.DecodeOptions{})
		i := slices.IndexFunc(fault.Violations(err), func(v fault.Violation) bool {
			return v.Pointer == "/params/"+typo && v.Code == "unknown" && strings.Contains(v.Message, "did you mean")
		})
		if i < 0 {
			t.Errorf("%s: no did-you-mean in %v", typo, err)
		}
		if err != nil && strings.Contains(err.Error(), "value-canary") {
			t.Errorf("%s: the error repeats the value", typo)
		}
	}
}

func testBad(t *testing.T, p providers.Provider, c Cases) {
	for name, bad := range c.Bad {
		_, err := p.Schema().Decode(bad.Input, providers.DecodeOptions{})
		if got := problems(err); !slices.Equal(got, bad.Want) {
			t.Errorf("%s: got %v, want %v", name, got, bad.Want)
		}
		if err != nil && !errors.Is(err, fault.InvalidArgument) {
			t.Errorf("%s: code %s", name, fault.CodeOf(err))
		}
	}
}

func testImport(t *testing.T, p providers.Provider, c Cases) {
	for name, im := range c.Imports {
		got, err := p.ImportConfig(t.Context(), im.Raw)
		if err != nil || !reflect.DeepEqual(got, im.Want) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	// What is flat and canonical already must survive.
	flat, err := p.ImportConfig(t.Context(), maps.Clone(c.Full.Params))
	if err != nil || len(flat) != len(c.Full.Params) {
		t.Errorf("a flat map: %v, %v", flat, err)
	}
}

// oddities are what a secret may hold that shells, JSON, URLs, templates or HTML
// give a meaning to.
var oddities = []string{`'single'`, `"double"`, "`back`", `back\slash`, `$HOME ${x} $ENV:X`, `%d %2F`, `{{x}}`, `<b> &amp;`, `«ümläut»-密码`, `a+b=c;d#e?f`}

// testSecrets sets each secret to odd texts: it arrives in the backend as it is or
// is refused at its pointer, never changed, and with a NUL it is refused.
func testSecrets(t *testing.T, p providers.Provider, c Cases) {
	for name, v := range c.Full.Secrets {
		plain := v.Reveal()
		with := func(text string) (providers.Config, error) {
			in := providers.Input{Params: c.Full.Params, Secrets: c.Full.Secrets.Clone()}
			in.Secrets[name] = secret.New(text)
			return c.decode(p, in)
		}
		for _, odd := range oddities {
			text := plain + odd
			cfg, err := with(text)
			if err != nil {
				if got := problems(err); len(got) != 1 || !strings.HasPrefix(got[0], "/secrets/"+name+" ") || strings.Contains(err.Error(), odd) {
					t.Errorf("%s with %s: %v", name, odd, got)
				}
				continue
			}
			b, err := p.Backend(t.Context(), cfg)
			if err != nil {
				t.Errorf("%s with %s: %v", name, odd, err)
				continue
			}
			if !slices.Contains(c.Withheld, name) && !b.Secrets[name].Equal(secret.New(text)) {
				t.Errorf("%s with %s is another one in the backend", name, odd)
			}
		}
		for _, text := range []string{plain + "\x00", "\x00" + plain} {
			_, err := with(text)
			if got := problems(err); len(got) != 1 || !strings.HasPrefix(got[0], "/secrets/"+name+" ") {
				t.Errorf("%s with a NUL: %v", name, got)
			}
		}
	}
}

// testCanaries prints everything that a Full config touches, in every way, and
// searches it for the secrets.
func testCanaries(t *testing.T, p providers.Provider, c Cases) {
	s := p.Schema()
	cfg, err := c.decode(p, c.Full)
	if err != nil {
		t.Fatal(err)
	}
	backend, err := p.Backend(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	spoilt := providers.Input{Params: map[string]any{}, Secrets: secret.Map{}}
	for name, v := range c.Full.Secrets {
		spoilt.Params[name] = v.Reveal()                       // a secret as a param
		spoilt.Secrets[name] = secret.New(v.Reveal() + "\x00") // refused content
		spoilt.Secrets[name+"_"] = v                           // unknown
		spoilt.Params["nested"] = map[string]any{"x": v.Reveal()}
	}
	for _, prm := range s.Params {
		for _, v := range c.Full.Secrets {
			spoilt.Params[prm.Name] = v.Reveal() + "\n" // a secret in a param's place, refused
		}
	}
	_, refused := s.Decode(spoilt, providers.DecodeOptions{Text: true})
	if refused == nil {
		t.Fatal("a spoilt config was accepted")
	}
	canaries := c.Full.Secrets.Clone()
	outputs := []any{cfg, backend, refused, fault.Violations(refused), s.JSONSchema(), s.Describe()}
	if c.Test {
		report, err := p.TestConnection(t.Context(), cfg, providers.TestOptions{Level: 1})
		outputs = append(outputs, report, err)
	}
	if c.Tokens != nil {
		canaries["access_token"] = backend.Secrets["access_token"]
	}
	if a, ok := p.(providers.Authorizer); ok {
		app, _, err := a.OAuth(cfg)
		if err != nil {
			t.Errorf("the OAuth2 client of the full example: %v", err)
		}
		outputs = append(outputs, app)
	}
	found := 0
	for i, o := range outputs {
		j, err := json.Marshal(o)
		if err != nil {
			t.Errorf("output %d: %v", i, err)
		}
		text := fmt.Sprintf("%s\n%v\n%+v\n%#v", j, o, o, o)
		for name, v := range canaries {
			if len(v.Reveal()) < 8 {
				t.Fatalf("the example of %s is too short to search for", name)
			}
			found++
			if strings.Contains(text, v.Reveal()) {
				t.Errorf("output %d (%T) contains the secret %s", i, o, name)
			}
		}
	}
	if len(s.Secrets) > 0 && found == 0 {
		t.Error("the full example has no secret to search for")
	}
}

// testConcurrency is for the race detector; it also compares the answers.
func testConcurrency(t *testing.T, p providers.Provider, c Cases) {
	want, err := c.decode(p, c.Full)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				cfg, err := p.Schema().Decode(c.Full, providers.DecodeOptions{})
				if err != nil || !reflect.DeepEqual(cfg.Params, want.Params) {
					t.Errorf("decode: %v", err)
					return
				}
				if _, err := p.Backend(t.Context(), want); err != nil {
					t.Error(err)
				}
				_ = p.Schema().JSONSchema()
			}
		})
	}
	wg.Wait()
}

func problems(err error) []string {
	var got []string
	for _, v := range fault.Violations(err) {
		got = append(got, v.Pointer+" "+v.Code)
	}
	return got
}

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}
