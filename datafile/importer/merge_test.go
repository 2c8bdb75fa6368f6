package importer_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// model is what the rule says, without any of the importer's code: each value
// remembers what its last import brought; the file wins only where the file's
// value changed since; where both changed it is a conflict. "" is absent.
type model struct {
	stored, base map[string]string
}

func (m model) clone() model { return model{maps.Clone(m.stored), maps.Clone(m.base)} }

func isSecret(name string) bool {
	return strings.HasSuffix(name, "_id") || strings.HasSuffix(name, "_token")
}

// imports returns the model after importing file, what wrote, and whether it is a
// conflict.
func (m model) imports(file map[string]string, force bool) (next model, wrote, wroteSecrets, conflict bool) {
	next = m.clone()
	var took, agreed []string
	for _, name := range names {
		f, stored, base := file[name], m.stored[name], m.base[name]
		switch {
		case f == stored:
			agreed = append(agreed, name)
		case f == base: // only the store changed
		case stored == base || force:
			took = append(took, name)
		default:
			return m, false, false, true
		}
	}
	for _, name := range took {
		next.stored[name], next.base[name] = file[name], file[name]
		wrote, wroteSecrets = true, wroteSecrets || isSecret(name)
	}
	// That the store has had the file's value already is worth remembering, but
	// for secrets not worth a write; and where no import ever brought a value, an
	// export that is imported again must not write.
	for _, name := range agreed {
		wrote = wrote || !isSecret(name) && m.base[name] != "" && m.base[name] != file[name]
	}
	for _, name := range agreed {
		if isSecret(name) && wroteSecrets && file[name] != "" || !isSecret(name) && wrote {
			next.base[name] = file[name]
		}
	}
	return next, wrote, wroteSecrets, false
}

var values = map[string][]string{
	"bucket": {"aaa", "bbb", "ccc"}, "region": {"", "eu", "us"}, "path_style": {"", "True", "False"},
	"access_key_id": {"k1", "k2", "k3"}, "session_token": {"", "s1", "s2"},
}

var names = slices.Sorted(maps.Keys(values))

func mergeCase(t *testing.T, w *world) {
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		id := tenant.MustID("t" + strconv.Itoa(n))
		m := model{map[string]string{}, map[string]string{}}
		edits := func(label string) {
			name := rapid.SampledFrom(names).Draw(rt, label)
			value := rapid.SampledFrom(values[name]).Draw(rt, label+" to")
			w.setOf(rt, id, name, value)
			m.stored[name] = value
		}
		file := map[string]string{"bucket": "aaa", "access_key_id": "k1"}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			if len(m.stored) > 0 && rapid.Bool().Draw(rt, "edit") {
				edits("edit")
				continue
			}
			for range rapid.IntRange(0, 2).Draw(rt, "changes of the file") {
				name := rapid.SampledFrom(names).Draw(rt, "name")
				file[name] = rapid.SampledFrom(values[name]).Draw(rt, "value")
				if stored, ok := m.stored[name]; ok && rapid.IntRange(0, 2).Draw(rt, "as stored") == 0 {
					file[name] = stored
				}
			}
			o := importer.Options{Force: rapid.IntRange(0, 4).Draw(rt, "force") == 0}
			first := len(m.stored) == 0
			var before int64
			if !first {
				before = w.revision(id)
			}
			writes := w.vault.writes.Load()
			plan, err := w.im.Plan(w.Context(), w.parse("f.xml", fileOf(id, file)), o)
			if err != nil {
				rt.Fatalf("plan: %v", err)
			}
			_, wouldWrite, _, conflict := m.imports(file, o.Force)
			// Someone may write between plan and import; a plan that has nothing to
			// do, or is refused, doesn't look again.
			raced := false
			if !first && wouldWrite && !conflict && rapid.IntRange(0, 3).Draw(rt, "race") == 0 {
				edits("racing edit")
				raced = true // what the first attempt wrote to the vault is deleted again
				before, writes = w.revision(id), w.vault.writes.Load()
			}
			next, wrote, wroteSecrets, conflict := m.imports(file, o.Force)
			_, err = w.im.Apply(w.Context(), plan)
			if conflict != errors.Is(err, fault.Conflict) || err != nil && !conflict {
				rt.Fatalf("conflict %v expected, got %v\n%s", conflict, err, plan)
			}
			if conflict {
				wrote, wroteSecrets, next = false, false, m
			}
			m = next
			if !first && (w.revision(id) != before) != wrote {
				rt.Fatalf("revision moved: %v, expected %v\n%s", !wrote, wrote, plan)
			}
			if !raced && !wroteSecrets && !conflict && w.vault.writes.Load() != writes {
				rt.Fatalf("a secret was written that did not change\n%s", plan)
			}
			w.matches(rt, id, m)
			if s := plan.String(); strings.Contains(s, "k1") || strings.Contains(s, "s1") {
				rt.Fatalf("the plan shows a secret:\n%s", s)
			}
		}
	})
}

// fileOf is the data file of a model.
func fileOf(id tenant.ID, file map[string]string) string {
	var b strings.Builder
	for _, name := range names {
		switch v := file[name]; {
		case v == "":
		case name == "path_style":
			fmt.Fprintf(&b, "'%s': %s, ", name, v)
		default:
			fmt.Fprintf(&b, "'%s': '%s', ", name, v)
		}
	}
	return fmt.Sprintf(`<ede><record id="t" model="gateway.tenant"><field name="key">%s</field></record>
<record id="bucket" model="ir.connector"><field name="kind">s3</field>
<field name="config" eval="{%s'secret_access_key': 'x'}"/></record></ede>`, id, b.String())
}

// setOf changes a param or secret the way the admin API does.
func (w *world) setOf(rt *rapid.T, id tenant.ID, name, value string) {
	c := w.connector(id, "bucket")
	if !isSecret(name) {
		var v any = value
		if name == "path_style" {
			v = value == "True"
		}
		if value == "" {
			w.edit(id, "bucket", clearParam(name))
			return
		}
		w.edit(id, "bucket", editParam(name, v))
		return
	}
	b, err := w.vault.Read(w.Context(), connector.SecretRef{Tenant: id, Connector: c.ID, Pin: c.Pin})
	if err != nil {
		rt.Fatal(err)
	}
	b.Values = b.Values.Clone()
	delete(b.Values, name)
	if value != "" {
		b.Values[name] = secret.New(value)
	}
	pin := vault.NewPin()
	if err := w.vault.Write(w.Context(), connector.SecretRef{Tenant: id, Connector: c.ID, Pin: pin}, b); err != nil {
		rt.Fatal(err)
	}
	w.edit(id, "bucket", func(c *connector.Connector) {
		c.Pin = pin
		s := c.Secrets[name]
		s.Version, s.Writer, s.UpdatedAt = s.Version+1, connector.WriterAPI, time.Now().UTC()
		c.Secrets[name] = s
		if value == "" {
			delete(c.Secrets, name)
		}
	})
}

// spelt is a value as the model spells it.
func spelt(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case bool:
		return map[bool]string{true: "True", false: "False"}[v]
	}
	return fmt.Sprint(v)
}

// matches compares what is stored with the model.
func (w *world) matches(rt *rapid.T, id tenant.ID, m model) {
	c := w.connector(id, "bucket")
	secrets := w.secrets(id, c)
	for _, name := range names {
		got := ""
		if isSecret(name) {
			if v, ok := secrets[name]; ok {
				got = v.Reveal()
			}
			if _, listed := c.Secrets[name]; listed != (got != "") {
				rt.Fatalf("%s: listed %v, in the vault %v", name, listed, got != "")
			}
		} else {
			p := c.Params[name]
			got = spelt(p.Value)
			if base := spelt(p.Imported); base != m.base[name] {
				rt.Fatalf("%s: remembers %q, expected %q", name, base, m.base[name])
			}
		}
		if got != m.stored[name] {
			rt.Fatalf("%s is %q, expected %q", name, got, m.stored[name])
		}
	}
}

// failingVaultCase: secrets come first, and when they can't be written nothing is.
func failingVaultCase(t *testing.T, w *world) {
	two := strings.Replace(s3("", plainS3), "</patchbay>", `<record id="second" model="ir.connector"><field name="kind">s3</field><field name="config" eval="`+plainS3+`"/></record></patchbay>`, 1)
	plan := w.plan(two, importer.Options{})
	down := fault.New(fault.Unavailable, "the secret store is down")
	w.vault.fail = func(n int64) error {
		if n == 2 {
			return down
		}
		return nil
	}
	if _, err := w.im.Apply(t.Context(), plan); !errors.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	if ts, err := w.store.Tenants(t.Context(), connector.TenantFilter{}); err != nil || len(ts) != 0 {
		t.Errorf("tenants %v, %v", ts, err)
	}
	if n := w.alive(acme); n != 0 {
		t.Errorf("%d bundles are left that nothing refers to", n)
	}
	w.vault.fail = nil
	if _, err := w.im.Apply(t.Context(), plan); err != nil {
		t.Errorf("once it is back: %v", err)
	}
	if n := w.alive(acme); n != 2 {
		t.Errorf("%d bundles", n)
	}

	// A changed secret goes to a new path, and the old one is left as it is when
	// the new one can't be written.
	before := w.connector(acme, "bucket")
	w.env["S3_SECRET"] = "canary-new"
	w.vault.fail = func(int64) error { return down }
	if _, err := w.im.Apply(t.Context(), w.plan(two, importer.Options{})); !errors.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	if after := w.connector(acme, "bucket"); after.Version != before.Version || after.Pin != before.Pin ||
		!w.secrets(acme, after)["secret_access_key"].Equal(secret.New("canary-s3-secret")) {
		t.Errorf("%+v became %+v", before, after)
	}
}

// refusedCase: a transaction that is refused leaves no secret behind; one whose
// outcome is unknown leaves them to the sweeper, for it may have pinned them.
func refusedCase(t *testing.T, w *world) {
	text := s3("", plainS3)
	for _, row := range []struct {
		err   error
		alive int
	}{
		{fault.New(fault.InvalidArgument, "refused"), 0},
		{fault.New(fault.Conflict, "refused"), 0},
		{fault.New(fault.Unavailable, "lost"), 1},
	} {
		w.store.err = row.err
		if _, err := w.im.Apply(t.Context(), w.plan(text, importer.Options{})); fault.CodeOf(err) != fault.CodeOf(row.err) {
			t.Errorf("got %v, want %v", err, row.err)
		}
		if n := w.alive(acme); n != row.alive {
			t.Errorf("after %v: %d bundles", row.err, n)
		}
		if ts, err := w.store.Tenants(t.Context(), connector.TenantFilter{}); err != nil || len(ts) != 0 {
			t.Errorf("tenants %v, %v", ts, err)
		}
	}
	w.store.err = nil
	w.apply(text, importer.Options{})
}

// badFileCase: one bad record of many, and nothing of the file is there.
func badFileCase(t *testing.T, w *world) {
	w.apply(s3("", plainS3), importer.Options{})
	bad := strings.Replace(s3("", strings.Replace(plainS3, "one", "two", 1)), "</patchbay>", `
<record id="second" model="ir.connector"><field name="kind">s3</field></record></patchbay>`, 1)
	w.refuses(bad, importer.Options{},
		`f.xml:9:1: record "second": param "bucket": is required`,
		`f.xml:9:1: record "second": secret "access_key_id": is required`,
		`f.xml:9:1: record "second": secret "secret_access_key": is required`)
}

// A secret that the API rotated was not meant for a target that only the file
// knows, though the file gives a secret of that name.
func TestNewTargetWithAnotherSecret(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mail := func(host string) string {
		return header + `<record id="mail" model="ir.connector"><field name="kind">smtp</field>
<field name="config" eval="{'host': '` + host + `', 'password': '$ENV:SMTP_PASSWORD'}"/></record></patchbay>`
	}
	w.apply(mail("one.example"), importer.Options{})
	w.editSecret(acme, "mail", "password", "canary-api")
	p := w.plan(mail("two.example"), importer.Options{})
	if _, err := w.im.Apply(t.Context(), p); !errors.Is(err, fault.Conflict) || len(p.Conflicts()) != 1 {
		t.Fatalf("got %v\n%s", err, p)
	}
	if c := w.connector(acme, "mail"); c.Params["host"].Value != "one.example" {
		t.Error("the target changed")
	}
	w.apply(mail("two.example"), importer.Options{Force: true})
	c := w.connector(acme, "mail")
	if c.Params["host"].Value != "two.example" || !w.secrets(acme, c)["password"].Equal(secret.New("canary-smtp")) {
		t.Error("the file's target did not get the file's secret")
	}
}

// Rows under noupdate create what is not there and change nothing that is.
func TestRowsUnderNoUpdate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.apply(s3("", plainS3), importer.Options{})
	row := func(id, key, value string) string {
		return `<record id="` + id + `" model="ir.connector.param"><field name="connector_id" ref="bucket"/><field name="key">` + key + `</field><field name="value">` + value + `</field></record>`
	}
	rows := `<ede><data noupdate="1">` + row("p1", "region", "us") + row("p2", "prefix", "p/") + row("p3", "secret_access_key", "canary-row") + row("p4", "session_token", "canary-token") +
		`</data>` + row("p5", "bucket", "two") + `</ede>`
	w.apply(rows, importer.Options{Tenant: acme})
	c := w.connector(acme, "bucket")
	if c.Params["region"].Value != "eu" || c.Params["prefix"].Value != "p/" || c.Params["bucket"].Value != "two" {
		t.Errorf("%+v", c.Params)
	}
	if s := w.secrets(acme, c); !s["secret_access_key"].Equal(secret.New("canary-s3-secret")) || !s["session_token"].Equal(secret.New("canary-token")) {
		t.Error("the secrets are others")
	}
	before := w.state()
	if w.apply(strings.NewReplacer("p/", "q/", "canary-token", "canary-other").Replace(rows), importer.Options{Tenant: acme}); w.state() != before {
		t.Error("rows under noupdate changed what is there")
	}
}

// A reference stands for a whole value in every field, and what an export
// writes stands for itself.
func TestReferencesInFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env["NAME"], w.env["ACTIVE"], w.env["ORG"] = "Bucket $ENV:X", "0", "acme"
	w.files["name"] = "$FILE:literal\n"
	text := strings.NewReplacer(">Bucket<", ">$ENV:NAME<", ">acme</field>\n<field name=\"config\"", ">$ENV:ORG</field>\n<field name=\"active\">$ENV:ACTIVE</field><field name=\"config\"").Replace(s3("", plainS3))
	text = strings.Replace(text, `<field name="key">acme</field></record>
<record id="o"`, `<field name="key">acme</field><field name="name">$FILE:name</field></record>
<record id="o"`, 1)
	w.apply(text, importer.Options{})
	c := w.connector(acme, "bucket")
	if c.Name != "Bucket $ENV:X" || c.Active || c.Organization != acmeOrg {
		t.Errorf("%+v", c)
	}
	w.env["BUCKET_ACCESS_KEY_ID"], w.env["BUCKET_SECRET_ACCESS_KEY"] = w.env["S3_KEY"], w.env["S3_SECRET"]
	f, err := w.im.Export(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := datafile.WriteYAML(&b, f); err != nil {
		t.Fatal(err)
	}
	if p, err := w.im.Plan(t.Context(), w.parse("f.yaml", b.String()), importer.Options{}); err != nil || p.Changed() {
		t.Errorf("%v\n%s", err, p)
	}
}

// A file's secret goes where the file says, or nowhere: an admin who moved the
// connector must not be handed the next secret by an import.
func TestAFilesSecretStaysWithTheFilesPlace(t *testing.T) {
	t.Parallel()
	mail := func(rest string) string {
		return header + `<record id="mail" model="ir.connector"><field name="kind">smtp</field>
<field name="config" eval="{'host': 'smtp.acme.example', 'password': '` + rest + `}"/></record></patchbay>`
	}
	for name, row := range map[string]struct {
		edit  func(w *world)
		param string
		value any // that force brings back; nil: none
	}{
		"the host, with the old secret": {func(w *world) { w.edit(acme, "mail", editParam("host", "smtp.evil.example")) }, "host", "smtp.acme.example"},
		"the host, with another secret": {func(w *world) {
			w.edit(acme, "mail", editParam("host", "smtp.evil.example"))
			w.editSecret(acme, "mail", "password", "canary-anything")
		}, "host", "smtp.acme.example"},
		"what the file leaves to its default": {func(w *world) { w.edit(acme, "mail", editParam("port", int64(2525))) }, "port", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.apply(mail("canary-one'"), importer.Options{})
			row.edit(w)
			// The same file again has no new secret to lose.
			if p := w.plan(mail("canary-one'"), importer.Options{}); p.Changed() {
				t.Errorf("unchanged file: %s", p)
			}
			before := w.state()
			p := w.plan(mail("canary-two'"), importer.Options{})
			if _, err := w.im.Apply(t.Context(), p); !errors.Is(err, fault.Conflict) ||
				!strings.Contains(p.String(), `param "`+row.param+`" changed in the store since the last import, and says where secret "password" is sent: the secret in the file was meant for another place`) {
				t.Errorf("%v\n%s", err, p)
			}
			if w.state() != before {
				t.Error("something was written")
			}
			w.apply(mail("canary-two'"), importer.Options{Force: true})
			c := w.connector(acme, "mail")
			if got := c.Params[row.param].Value; got != row.value {
				t.Errorf("the secret of the file lies beside %s %v", row.param, got)
			}
			if !w.secrets(acme, c)["password"].Equal(secret.New("canary-two")) {
				t.Error("the file did not win")
			}
			if p := w.plan(mail("canary-two'"), importer.Options{}); p.Changed() {
				t.Errorf("again: %s", p)
			}
		})
	}
}

// The file's old secret is sent to a new place of the file's too, so it must not
// meet what the store changed of that place.
func TestAForcedSecretTakesEveryPlace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mail := func(port string) string {
		return header + `<record id="mail" model="ir.connector"><field name="kind">smtp</field>
<field name="config" eval="{'host': 'smtp.acme.example', 'port': ` + port + `, 'password': '$ENV:SMTP_PASSWORD'}"/></record></patchbay>`
	}
	w.apply(mail("587"), importer.Options{})
	w.edit(acme, "mail", editParam("host", "smtp.evil.example"))
	w.editSecret(acme, "mail", "password", "canary-anything")
	before := w.state()
	p := w.plan(mail("465"), importer.Options{})
	if _, err := w.im.Apply(t.Context(), p); !errors.Is(err, fault.Conflict) || len(p.Conflicts()) != 2 || w.state() != before {
		t.Errorf("%v\n%s", err, p)
	}
	w.apply(mail("465"), importer.Options{Force: true})
	c := w.connector(acme, "mail")
	if c.Params["host"].Value != "smtp.acme.example" || c.Params["port"].Value != int64(465) ||
		!w.secrets(acme, c)["password"].Equal(secret.New("canary-smtp")) {
		t.Errorf("the file did not win whole: %+v", c.Params)
	}
}

// Rows that bring a secret alone know the place of the last import.
func TestRowsSecretStaysWithTheImportedPlace(t *testing.T) {
	t.Parallel()
	row := func(key, value string) string {
		return `<record id="row_` + key + `" model="ir.connector.param"><field name="connector_id" ref="mail"/><field name="key">` + key + `</field><field name="value">` + value + `</field></record>`
	}
	for name, c := range map[string]struct {
		rows   string
		refuse bool
		host   string // after force
		secret string
	}{
		"the secret alone":             {row("password", "canary-two"), true, "smtp.acme.example", "canary-two"},
		"beside a host under noupdate": {`<data noupdate="1">` + row("host", "smtp.acme.example") + `</data>` + row("password", "canary-two"), true, "smtp.acme.example", "canary-two"},
		"the secret under noupdate":    {`<data noupdate="1">` + row("password", "canary-two") + `</data>`, false, "smtp.evil.example", "canary-smtp"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.apply(header+`<record id="mail" model="ir.connector"><field name="kind">smtp</field>
<field name="config" eval="{'host': 'smtp.acme.example', 'password': '$ENV:SMTP_PASSWORD'}"/></record></patchbay>`, importer.Options{})
			w.edit(acme, "mail", editParam("host", "smtp.evil.example"))
			before := w.state()
			p := w.plan(`<ede>`+c.rows+`</ede>`, importer.Options{Tenant: acme})
			if _, err := w.im.Apply(t.Context(), p); errors.Is(err, fault.Conflict) != c.refuse || !c.refuse && err != nil || w.state() != before {
				t.Errorf("%v\n%s", err, p)
			}
			w.apply(`<ede>`+c.rows+`</ede>`, importer.Options{Tenant: acme, Force: true})
			got := w.connector(acme, "mail")
			if got.Params["host"].Value != c.host || !w.secrets(acme, got)["password"].Equal(secret.New(c.secret)) {
				t.Errorf("the secret lies beside %v", got.Params["host"].Value)
			}
		})
	}
}

// generation is a kind in two versions, the second of which has other names.
type generation struct {
	providers.Base
	schema *providers.Schema
}

func (g generation) Schema() *providers.Schema { return g.schema }

func (g generation) Backend(_ context.Context, c providers.Config) (providers.Backend, error) {
	return providers.Direct(c), nil
}

func newGeneration(version int) generation {
	param, secretName := "zone", "password"
	s := &providers.Schema{Kind: "generation", Category: providers.API, Label: "Generation", Version: version}
	if version == 2 {
		param, secretName = "region", "passphrase"
		s.Upgrades = []providers.Upgrade{{From: 1, Secrets: map[string]string{"password": "passphrase"}, Params: func(p map[string]any) error {
			if v, ok := p["zone"]; ok {
				delete(p, "zone")
				p["region"] = v
			}
			return nil
		}}}
	}
	s.Params = []providers.Param{{Name: param, Type: providers.String, Label: "Where"}, {Name: "note", Type: providers.String, Label: "Note"}}
	s.Secrets = []providers.Param{
		{Name: secretName, Type: providers.String, Label: "Secret", AffectsConnection: true},
		{Name: "second", Type: providers.String, Label: "Second secret"},
	}
	return generation{schema: s}
}

// A file that is written for the kind as it is now finds what was stored under the
// names of before, secrets included, and leaves a record that this build can read.
func TestImportUpgradesSecretsToo(t *testing.T) {
	t.Parallel()
	file := func(config string) string {
		return header + `<record id="g" model="ir.connector"><field name="kind">generation</field><field name="config" eval="` + config + `"/></record></patchbay>`
	}
	for name, row := range map[string]struct {
		config string
		note   any
		want   string
		edit   func(w *world)
	}{
		"another param":                       {"{'region': 'eu', 'passphrase': 'canary-one', 'note': 'n'}", "n", "canary-one", nil},
		"another secret":                      {"{'region': 'eu', 'passphrase': 'canary-two'}", nil, "canary-two", nil},
		"a secret that was changed meanwhile": {"{'region': 'eu', 'passphrase': 'canary-one', 'note': 'n'}", "n", "canary-api", func(w *world) { w.editSecret(acme, "g", "password", "canary-api") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			kinds := func(version int) *providers.Registry {
				r, err := providers.NewRegistry(newGeneration(version))
				if err != nil {
					t.Fatal(err)
				}
				return r
			}
			w.im.Kinds = kinds(1)
			w.apply(file("{'zone': 'eu', 'password': 'canary-one'}"), importer.Options{})
			if row.edit != nil {
				row.edit(w)
			}
			w.im.Kinds = kinds(2)
			// What every reader upgrades by itself is no reason to write.
			if p := w.plan(file("{'region': 'eu', 'passphrase': 'canary-one'}"), importer.Options{}); p.Changed() {
				t.Errorf("the same values:\n%s", p)
			}
			w.apply(file(row.config), importer.Options{})
			c := w.connector(acme, "g")
			held := w.secrets(acme, c)
			if c.SchemaVersion != 2 || c.Params["region"].Value != "eu" || c.Params["note"].Value != row.note ||
				len(held) != 1 || !held["passphrase"].Equal(secret.New(row.want)) || len(c.Secrets) != 1 || c.Secrets["passphrase"].Version == 0 {
				t.Errorf("%+v, secrets %v", c, held)
			}
			if p := w.plan(file(row.config), importer.Options{}); p.Changed() {
				t.Errorf("again:\n%s", p)
			}
		})
	}
}

// The last secret goes with the file while another one was cleared by hand: that one
// is still known to be, and does not come back.
func TestLastSecretGoesBesideAClearedOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	kinds, err := providers.NewRegistry(newGeneration(1))
	if err != nil {
		t.Fatal(err)
	}
	w.im.Kinds = kinds
	file := func(second string) string {
		return header + `<record id="g" model="ir.connector"><field name="kind">generation</field><field name="config" eval="{'password': 'canary-one'` + second + `}"/></record></patchbay>`
	}
	w.apply(file(", 'second': 'canary-two'"), importer.Options{})
	c := w.connector(acme, "g")
	b, err := w.vault.Read(t.Context(), connector.SecretRef{Tenant: acme, Connector: c.ID, Pin: c.Pin})
	if err != nil {
		t.Fatal(err)
	}
	pin := vault.NewPin()
	delete(b.Values, "password")
	if err := w.vault.Write(t.Context(), connector.SecretRef{Tenant: acme, Connector: c.ID, Pin: pin}, b); err != nil {
		t.Fatal(err)
	}
	w.edit(acme, "g", func(next *connector.Connector) { delete(next.Secrets, "password"); next.Pin = pin })
	for range 2 {
		w.apply(file(""), importer.Options{})
		if c := w.connector(acme, "g"); len(c.Secrets) != 0 || len(w.secrets(acme, c)) != 0 {
			t.Fatalf("%v", c.Secrets)
		}
	}
}

// Who may not change the tenant imports what names it all the same: an export does.
func TestFixedTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := func(fields string) string {
		return `<patchbay><record id="own" model="gateway.tenant"><field name="key">acme</field>` + fields + `</record>
			<record id="b" model="ir.connector"><field name="tenant_id" ref="own"/><field name="kind">s3</field>
			<field name="config" eval="{'bucket': 'bbb', 'access_key_id': 'a', 'secret_access_key': 'canary'}"/></record></patchbay>`
	}
	fixed := importer.Options{Tenant: acme, FixedTenant: true}
	w.refuses(file(""), fixed, `f.xml:1:11: record "own": the tenant itself is made and changed by the platform's operator; leave name and status out, or as they are`)
	w.apply(header+"</patchbay>", importer.Options{})
	for name, fields := range map[string]string{
		"a suspension": `<field name="status">suspended</field>`,
		"another name": `<field name="name">Somebody else</field>`,
	} {
		t.Log(name)
		w.refuses(file(fields), fixed, `f.xml:1:11: record "own": the tenant itself is made and changed by the platform's operator; leave name and status out, or as they are`)
	}
	stored := func() connector.Tenant {
		got, err := w.store.Tenant(acme).Get(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	before := stored()
	w.apply(file(`<field name="name">`+before.Name+`</field><field name="status">ready</field>`), fixed)
	after := stored()
	if w.connector(acme, "b").Name != "b" || after.ExternalID != before.ExternalID || after.Name != before.Name || after.NoUpdate != before.NoUpdate {
		t.Errorf("%+v, before %+v", after, before)
	}
}
