package importer_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// Whatever the API stored, an export of it changes nothing where it came from,
// and elsewhere makes a tenant whose export is the same.
func TestExportComesBack(t *testing.T) {
	t.Parallel()
	w, elsewhere := newWorld(t), newWorld(t)
	elsewhere.env = w.env
	odd := rapid.OneOf(
		rapid.SampledFrom([]string{"$ENV:X", "$$ENV:X", "$FILE:/etc/passwd", "$ENV", "True", "007", "a'b\"c\\d", "<&>]]>", "é😀", "# x", "{ref: a}", "x: y", "- x", "null"}),
		rapid.StringOfN(rapid.RuneFrom(nil, unicode.Letter, unicode.Symbol, unicode.Punct), 1, 20, -1),
	)
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		id := tenant.MustID("t" + strconv.Itoa(n))
		for name := range w.env {
			delete(w.env, name)
		}
		hq := connector.Organization{ID: tenant.MustOrganizationID("hq"), Name: odd.Draw(rt, "organization"), Active: rapid.Bool().Draw(rt, "active")}
		made := connector.Tenant{ID: id, Name: odd.Draw(rt, "tenant"), Status: connector.StatusReady}
		var connectors []connector.Connector
		taken := map[string]bool{}
		for range rapid.IntRange(0, 3).Draw(rt, "connectors") {
			c := connector.Connector{
				ID: connector.NewID(), Name: odd.Draw(rt, "name"), Category: providers.Storage, Kind: "s3", SchemaVersion: 1,
				State: connector.StateUntested, Active: rapid.Bool().Draw(rt, "active"), BlockPinned: rapid.Bool().Draw(rt, "block"), NoUpdate: rapid.Bool().Draw(rt, "noupdate"),
				Params: map[string]connector.Param{"bucket": {Value: "one", Writer: connector.WriterAPI}}, Secrets: map[string]connector.SecretInfo{},
			}
			secrets := secret.Map{"access_key_id": secret.New(odd.Draw(rt, "key")), "secret_access_key": secret.New(odd.Draw(rt, "secret"))}
			if rapid.Bool().Draw(rt, "smtp") {
				c.Kind, c.Category, c.Params = "smtp", providers.Email, map[string]connector.Param{"host": {Value: "h", Writer: connector.WriterAPI}, "port": {Value: int64(25), Writer: connector.WriterAPI}}
				c.Params["username"] = connector.Param{Value: odd.Draw(rt, "user"), Writer: connector.WriterAPI}
				secrets = secret.Map{"password": secret.New(odd.Draw(rt, "password"))}
				if rapid.Bool().Draw(rt, "no secret") {
					secrets = nil
				}
			} else {
				c.Params["prefix"] = connector.Param{Value: odd.Draw(rt, "prefix"), Writer: connector.WriterAPI}
				c.Params["path_style"] = connector.Param{Value: rapid.Bool().Draw(rt, "path style"), Writer: connector.WriterAPI}
			}
			if rapid.Bool().Draw(rt, "own") {
				c.Organization = hq.ID
			}
			slot := c.Organization.String() + string(c.Category)
			c.Default = c.Active && !taken[slot] && rapid.Bool().Draw(rt, "default")
			taken[slot] = taken[slot] || c.Default
			for name := range secrets {
				c.Secrets[name] = connector.SecretInfo{Version: 1, Writer: connector.WriterAPI, UpdatedAt: time.Now()}
			}
			if len(secrets) > 0 {
				c.Pin = vault.NewPin()
				if err := w.vault.Write(t.Context(), connector.SecretRef{Tenant: id, Connector: c.ID, Pin: c.Pin}, vault.Bundle{Values: secrets}); err != nil {
					rt.Fatal(err)
				}
			}
			prefix := strings.ToUpper(strings.ReplaceAll(c.ID.String(), "-", "_")) + "_"
			if prefix[0] >= '0' && prefix[0] <= '9' {
				prefix = "CONNECTOR_" + prefix
			}
			for name, v := range secrets {
				w.env[prefix+strings.ToUpper(name)] = v.Reveal()
			}
			connectors = append(connectors, c)
		}
		if _, err := w.store.Change(t.Context(), connector.Change{Create: []connector.Tenant{made}, Actor: "test"}, func(ctx context.Context, tx connector.Tx) error {
			if err := tx.Tenant(id).PutOrganization(ctx, hq); err != nil {
				return err
			}
			for _, c := range connectors {
				if err := tx.Tenant(id).Insert(ctx, c); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			rt.Fatal(err)
		}
		for _, format := range []string{"f.xml", "f.yaml"} {
			text := exported(rt, w, id, format)
			p, err := w.im.Plan(t.Context(), w.parse(format, text), importer.Options{})
			if err != nil || p.Changed() {
				rt.Fatalf("%v\n%s\n%s", err, p, text)
			}
		}
		text := exported(rt, w, id, "f.xml")
		p, err := elsewhere.im.Plan(t.Context(), elsewhere.parse("f.xml", text), importer.Options{})
		if err != nil {
			rt.Fatalf("%v\n%s", err, text)
		}
		if _, err := elsewhere.im.Apply(t.Context(), p); err != nil {
			rt.Fatal(err)
		}
		if again := exported(rt, elsewhere, id, "f.xml"); again != text {
			rt.Fatalf("another export:\n%s\n%s", text, again)
		}
	})
}

func exported(rt *rapid.T, w *world, id tenant.ID, format string) string {
	f, err := w.im.Export(w.Context(), id)
	if err != nil {
		rt.Fatal(err)
	}
	var b strings.Builder
	write := datafile.WriteXML
	if format == "f.yaml" {
		write = datafile.WriteYAML
	}
	if err := write(&b, f); err != nil {
		rt.Fatal(err)
	}
	return b.String()
}
