package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// records is where import and export work: the real servers, or a dev data dir.
type records struct {
	importer *importer.Importer
	store    connector.Store
	embedded bool
	// kick relays what was committed, as far as Redis can be reached: running
	// sidecars hear of it without waiting for a relay.
	kick  func(ctx context.Context)
	close func()
}

// openRecords opens --data-dir when it is given, else what --config says.
func openRecords(c *cobra.Command, s streams, env environment, dataDir string) (*records, error) {
	ctx, log := c.Context(), obs.NewLogger(s.err, "warn")
	if dataDir != "" {
		e, err := openEmbedded(ctx, dataDir, log)
		if err != nil {
			return nil, err
		}
		return &records{
			importer: newImporter(e.store, e.secrets, e.kinds, env.lookup), store: e.store, embedded: true,
			kick: func(context.Context) {}, close: e.close,
		}, nil
	}
	cfg, err := loadConfig(c, s, env, config.ModeImport)
	if err != nil {
		return nil, err
	}
	kinds, err := builtin.Registry()
	if err != nil {
		return nil, err
	}
	u, err := openUpstreams(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	return &records{
		importer: newImporter(u.store, u.secrets, kinds, env.lookup), store: u.store, close: u.close,
		kick: func(ctx context.Context) { u.relayOnce(ctx, log) },
	}, nil
}

// relayOnce sends what the import left in the outbox. A failure is no error of
// the import: the relay of `admin` will do it.
func (u *upstreams) relayOnce(ctx context.Context, log *slog.Logger) {
	if u.redis == nil {
		return
	}
	if err := resolver.NewRelay(u.store, u.redis.NewPublisher(), log).Drain(ctx); err != nil {
		log.Warn("the change was not announced yet; a running `sidecar admin` will do it", "error", err)
	}
}

func newImporter(store connector.Store, secrets vault.Store, kinds *providers.Registry, lookup func(string) (string, bool)) *importer.Importer {
	return &importer.Importer{
		Store: store, Secrets: secrets, Kinds: kinds, Env: lookup, ReadFile: os.ReadFile, Now: time.Now,
		NewID: connector.NewID, NewPin: vault.NewPin,
	}
}

func importCommand(s streams, env environment) *cobra.Command {
	var dataDir, tenantID string
	var dryRun, createOrganizations, force, restore bool
	c := &cobra.Command{
		Use: "import FILE...", Short: "Import data files (XML, YAML, CSV)", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, files []string) error {
			o := importer.Options{CreateOrganizations: createOrganizations, Force: force, Restore: restore, Actor: "cli:import"}
			if tenantID != "" {
				id, err := tenant.ParseID(tenantID)
				if err != nil {
					return usagef("--tenant: %w", err)
				}
				o.Tenant = id
			}
			r, err := openRecords(c, s, env, dataDir)
			if err != nil {
				return err
			}
			defer r.close()
			if r.embedded {
				o.DefaultTenant, o.CreateOrganizations = devTenant, true
			}
			for _, name := range files {
				if err := importFile(c.Context(), s, r, name, o, dryRun); err != nil {
					return err
				}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data-dir", "", "import into the dev store of this data dir")
	f.StringVar(&tenantID, "tenant", "", "tenant of records that name none")
	f.BoolVar(&dryRun, "dry-run", false, "print the plan, change nothing")
	f.BoolVar(&createOrganizations, "create-organizations", false, "create organizations that are only referred to")
	f.BoolVar(&force, "force", false, "let the file win where file and store both changed")
	f.BoolVar(&restore, "restore", false, "revive deleted connectors of the same external id")
	return c
}

func importFile(ctx context.Context, s streams, r *records, name string, o importer.Options, dryRun bool) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("the data file cannot be opened: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	file, err := datafile.Parse(name, f, datafile.Limits{})
	if err != nil {
		return err
	}
	plan, err := r.importer.Plan(ctx, file, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%s\n", strings.TrimRight(plan.String(), "\n"))
	if dryRun {
		if c := plan.Conflicts(); len(c) > 0 {
			return c
		}
		return nil
	}
	if _, err := r.importer.Apply(ctx, plan); err != nil {
		return err
	}
	r.kick(ctx)
	return nil
}

func exportCommand(s streams, env environment) *cobra.Command {
	var dataDir, tenantID, format string
	c := &cobra.Command{
		Use: "export", Short: "Export a tenant as a data file, secrets as $ENV: placeholders", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "xml" && format != "yaml" {
				return usagef("--format is xml or yaml")
			}
			r, err := openRecords(c, s, env, dataDir)
			if err != nil {
				return err
			}
			defer r.close()
			id, err := theTenant(c.Context(), r.store, tenantID)
			if err != nil {
				return err
			}
			file, err := r.importer.Export(c.Context(), id)
			if err != nil {
				return err
			}
			if format == "yaml" {
				return datafile.WriteYAML(s.out, file)
			}
			return datafile.WriteXML(s.out, file)
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data-dir", "", "export from the dev store of this data dir")
	f.StringVar(&tenantID, "tenant", "", "the tenant, where there are several")
	f.StringVar(&format, "format", "xml", "xml or yaml")
	return c
}

// theTenant is the named one, or the only one there is.
func theTenant(ctx context.Context, store connector.Store, name string) (tenant.ID, error) {
	if name != "" {
		id, err := tenant.ParseID(name)
		if err != nil {
			return tenant.ID{}, usagef("--tenant: %w", err)
		}
		return id, nil
	}
	all, err := store.Tenants(ctx)
	if err != nil {
		return tenant.ID{}, err
	}
	if len(all) == 1 {
		return all[0].ID, nil
	}
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = t.ID.String()
	}
	if len(all) == 0 {
		return tenant.ID{}, errors.New("there is no tenant yet")
	}
	return tenant.ID{}, usagef("there are several tenants (%s): name one with --tenant", strings.Join(names, ", "))
}
