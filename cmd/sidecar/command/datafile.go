package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// records is where import and export work: the real servers, or a dev data dir.
type records struct {
	importer *importer.Importer
	store    connector.Store
	// kick relays what was committed, as far as Redis can be reached: running
	// sidecars hear of it without waiting for a relay.
	kick  func(ctx context.Context)
	close func()
}

// records works on an open data dir. Closing it is the caller's.
func (e *embedded) records(lookup func(string) (string, bool), readFile func(string) ([]byte, error)) *records {
	im := newImporter(e.store, e.secrets, e.kinds, lookup)
	im.ReadFile = readFile
	return &records{importer: im, store: e.store, kick: func(context.Context) {}, close: func() {}}
}

// openRecords opens what --config says.
func openRecords(c *cobra.Command, s streams, env environment) (*records, error) {
	ctx, log := c.Context(), obs.NewLogger(s.err, "warn")
	cfg, err := loadConfig(c, s, env, config.ModeImport)
	if err != nil {
		if c.Flag("config").Value.String() == "" && env.get("PATCHBAY_CONFIG") == "" {
			err = usageError{fmt.Errorf("%w\ngive --config FILE, or --data-dir DIR for the store of a `sidecar dev`", err)}
		}
		return nil, err
	}
	kinds, err := loadKinds(cfg, logKind(log))
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

// onDataDir does a thing with a dev data dir: through the dev that holds it, or
// by itself when there is none. A dev that is just starting or leaving is
// waited for. kinds is asked where there is no dev, which has its own.
func onDataDir(ctx context.Context, dir string, kinds func() (*providers.Registry, error), log *slog.Logger, remote func() error, local func(e *embedded) error) error {
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("there is no data dir at %s: start `sidecar dev` once, or give --data-dir", dir)
	}
	for end := time.Now().Add(handover); ; {
		err := remote()
		if !errors.Is(err, errNobody) {
			return err
		}
		known, err := kinds()
		if err != nil {
			return err
		}
		e, err := openEmbedded(ctx, dir, known, log)
		switch {
		case err == nil:
			defer e.close()
			return local(e)
		case !errors.Is(err, errLocked) || time.Now().After(end):
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// relayOnce sends what the import left in the outbox. A failure is no error of
// the import: the relay of `admin` will do it.
func (u *upstreams) relayOnce(ctx context.Context, log *slog.Logger) {
	if u.redis == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if err := resolver.NewRelay(u.store, u.redis.NewPublisher(), log).Drain(ctx); err != nil {
		log.Warn("the change was not announced yet; a running `sidecar admin` will do it", "error", err)
	}
}

func newImporter(store connector.Store, secrets vault.Store, kinds *providers.Registry, lookup func(string) (string, bool)) *importer.Importer {
	return &importer.Importer{
		Store: store, Secrets: secrets, Kinds: kinds, Env: lookup, ReadFile: readValue, Now: time.Now,
		NewID: connector.NewID, NewPin: vault.NewPin,
	}
}

type importFlags struct {
	dataDir, tenant                             string
	dryRun, createOrganizations, force, restore bool
}

func importCommand(s streams, env environment) *cobra.Command {
	var flags importFlags
	c := &cobra.Command{
		Use: "import FILE...", Short: "Import data files (XML, YAML, CSV)", Args: cobra.MinimumNArgs(1),
		Long: "Imports data files: tenants, organizations and connectors with their params and secrets.\n" +
			"Each file is one transaction: all of it, or nothing. CSV files given together are one: a CSV\n" +
			"holds one model, and their records refer to each other. $ENV:NAME and $FILE:path stand for a\n" +
			"whole value and are resolved here. Importing a file again changes nothing.",
		Example: "  sidecar import --config sidecar.yaml acme.xml\n  sidecar import --data-dir .patchbay --dry-run acme.xml\n" +
			"  sidecar import --config sidecar.yaml --tenant acme ir.connector.csv ir.connector.param.csv",
		RunE: func(c *cobra.Command, files []string) error {
			o := importer.Options{CreateOrganizations: flags.createOrganizations, Force: flags.force, Restore: flags.restore, Actor: "cli:import"}
			if flags.tenant != "" {
				id, err := tenant.ParseID(flags.tenant)
				if err != nil {
					return usagef("--tenant: %w", err)
				}
				o.Tenant = id
			}
			if flags.dataDir != "" {
				return importIntoDev(c, s, env, files, flags)
			}
			r, err := openRecords(c, s, env)
			if err != nil {
				return err
			}
			defer r.close()
			return importFiles(c.Context(), s.out, r, files, o, flags.dryRun)
		},
	}
	f := c.Flags()
	f.StringVar(&flags.dataDir, "data-dir", "", "import into the dev store of this data dir")
	f.StringVar(&flags.tenant, "tenant", "", "tenant of records that name none")
	f.BoolVar(&flags.dryRun, "dry-run", false, "print the plan, change nothing")
	f.BoolVar(&flags.createOrganizations, "create-organizations", false, "create organizations that are only referred to")
	f.BoolVar(&flags.force, "force", false, "let the file win where file and store both changed")
	f.BoolVar(&flags.restore, "restore", false, "revive deleted connectors of the same external id")
	return c
}

func importIntoDev(c *cobra.Command, s streams, env environment, files []string, flags importFlags) error {
	ctx := c.Context()
	kinds := sync.OnceValues(func() (*providers.Registry, error) { return configuredKinds(c, s, env) })
	for _, names := range datafile.Units(files) {
		call, err := importCallOf(names, env, flags)
		if err != nil {
			return err
		}
		tell := func(out string, err error) error {
			_, _ = io.WriteString(s.out, out) // stdout is gone: nothing to tell anybody
			return err
		}
		remote := func() error { return tell(callDev(ctx, flags.dataDir, "import", call)) }
		// What was read once is not read again: a file may be a pipe.
		local := func(e *embedded) error { return tell(e.importFor(ctx, call)) }
		if err := onDataDir(ctx, flags.dataDir, kinds, obs.NewLogger(s.err, "warn"), remote, local); err != nil {
			return err
		}
	}
	return nil
}

// importFiles imports unit by unit, in order, and stops at the first bad one.
func importFiles(ctx context.Context, out io.Writer, r *records, files []string, o importer.Options, dryRun bool) error {
	for _, names := range datafile.Units(files) {
		sources, closeAll, err := openSources(names)
		if err != nil {
			return err
		}
		err = importFrom(ctx, out, r, sources, o, dryRun)
		closeAll()
		if err != nil {
			return err
		}
	}
	return nil
}

// openSources opens the data files of one unit; closing them is the caller's.
func openSources(names []string) (sources []datafile.Source, closeAll func(), err error) {
	var files []*os.File
	closeAll = func() {
		for _, f := range files {
			_ = f.Close() // only read
		}
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("the data file cannot be opened: %w", err)
		}
		files = append(files, f)
		sources = append(sources, datafile.Source{Name: name, Content: f})
	}
	return sources, closeAll, nil
}

// importFrom imports one unit.
func importFrom(ctx context.Context, out io.Writer, r *records, sources []datafile.Source, o importer.Options, dryRun bool) error {
	file, err := datafile.ParseUnit(sources, datafile.Limits{})
	if err != nil {
		return err
	}
	plan, err := r.importer.Plan(ctx, file, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s\n", strings.TrimRight(plan.String(), "\n"))
	if c := plan.Conflicts(); len(c) > 0 {
		return fmt.Errorf("%w\nnothing was imported: with --force the file wins where it and the store both changed", c)
	}
	if dryRun {
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
			if dataDir == "" {
				r, err := openRecords(c, s, env)
				if err != nil {
					return err
				}
				defer r.close()
				return exportTo(c.Context(), s.out, r, tenantID, format)
			}
			remote := func() error {
				out, err := callDev(c.Context(), dataDir, "export", exportCall{Tenant: tenantID, Format: format})
				if err == nil {
					_, err = io.WriteString(s.out, out)
				}
				return err
			}
			local := func(e *embedded) error {
				return exportTo(c.Context(), s.out, e.records(nil, nil), tenantID, format)
			}
			kinds := sync.OnceValues(func() (*providers.Registry, error) { return configuredKinds(c, s, env) })
			return onDataDir(c.Context(), dataDir, kinds, obs.NewLogger(s.err, "warn"), remote, local)
		},
	}
	f := c.Flags()
	f.StringVar(&dataDir, "data-dir", "", "export from the dev store of this data dir")
	f.StringVar(&tenantID, "tenant", "", "the tenant, where there are several")
	f.StringVar(&format, "format", "xml", "xml or yaml")
	return c
}

func exportTo(ctx context.Context, out io.Writer, r *records, tenantID, format string) error {
	id, err := theTenant(ctx, r.store, tenantID)
	if err != nil {
		return err
	}
	file, err := r.importer.Export(ctx, id)
	if err != nil {
		return err
	}
	if format == "yaml" {
		return datafile.WriteYAML(out, file)
	}
	return datafile.WriteXML(out, file)
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
	all, err := store.Tenants(ctx, connector.TenantFilter{})
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
		return tenant.ID{}, errors.New("there is no tenant yet: import a data file first")
	}
	return tenant.ID{}, usagef("there are several tenants (%s): name one with --tenant", strings.Join(names, ", "))
}
