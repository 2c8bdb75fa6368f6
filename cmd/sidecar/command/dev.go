package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/connector/sqlite"
	"github.com/patchbay-dev/patchbay/datafile"
	"github.com/patchbay-dev/patchbay/datafile/importer"
	"github.com/patchbay-dev/patchbay/examples"
	"github.com/patchbay-dev/patchbay/httpapi"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/resolver"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/tenant/devissuer"
	"github.com/patchbay-dev/patchbay/vault/sealed"
)

// What lies in a dev data dir.
const (
	storeFile  = "patchbay.db"
	secretsDir = "secrets"
	issuerDir  = "issuer"
	lockFile   = "lock"
)

// devTenant is where a dev seed's records go that name no tenant.
var devTenant = tenant.MustID("default")

// embedded is the embedded store and secrets of a data dir, held by one process.
type embedded struct {
	dir     string
	store   *sqlite.Store
	secrets *sealed.Store
	kinds   *providers.Registry
	unlock  func()
	fresh   bool     // there was no store yet
	made    []string // paths in the data dir that were not there before
	madeDir bool     // nor was it

	warnings []string // about who else can reach the data dir
}

// openEmbedded takes the data dir for this process.
func openEmbedded(ctx context.Context, dir string, kinds *providers.Registry, log *slog.Logger) (*embedded, error) {
	noDir, noLock := absent(dir), absent(filepath.Join(dir, lockFile))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data dir %s cannot be made: %w", dir, err)
	}
	ours, unlock, err := lockDir(filepath.Join(dir, lockFile), noDir)
	if err != nil {
		return nil, err
	}
	// Only the holder of the lock knows what is there: another dev may have come
	// and gone since.
	e := &embedded{dir: dir, kinds: kinds, unlock: unlock, fresh: absent(filepath.Join(dir, storeFile))}
	for _, name := range []string{storeFile, storeFile + "-wal", storeFile + "-shm", secretsDir, issuerDir} {
		if path := filepath.Join(dir, name); absent(path) {
			e.made = append(e.made, path)
		}
	}
	if noLock {
		e.made = append(e.made, filepath.Join(dir, lockFile))
	}
	e.madeDir = noDir
	e.warnings = guard(dir, ours)
	if e.store, err = sqlite.Open(ctx, filepath.Join(dir, storeFile), sqlite.Options{Log: log}); err == nil {
		e.secrets, err = sealed.Open(filepath.Join(dir, secretsDir), sealed.Options{})
	}
	if err != nil {
		if e.fresh {
			e.discard()
		}
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *embedded) close() {
	if e.secrets != nil {
		_ = e.secrets.Close() // nothing is buffered
	}
	if e.store != nil {
		_ = e.store.Close() // every commit is on disk already
	}
	e.unlock()
}

// seed imports a data file, or the bundled example when path is "".
func (e *embedded) seed(ctx context.Context, path string, env environment) error {
	name, lookup := examples.AcmeName, env.lookup
	var content io.Reader = bytes.NewReader(examples.Acme)
	if path == "" {
		lookup = func(name string) (string, bool) {
			if v := env.get(name); v != "" || !slices.Contains(examples.AcmeVariables(), name) {
				return v, v != ""
			}
			return "demo-" + strings.ReplaceAll(strings.ToLower(name), "_", "-"), true
		}
	} else {
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("the seed cannot be opened: %w", err)
		}
		defer func() { _ = f.Close() }() // only read
		name, content = path, f
	}
	file, err := datafile.Parse(name, content, datafile.Limits{})
	if err != nil {
		return err
	}
	im := newImporter(e.store, e.secrets, e.kinds, lookup)
	plan, err := im.Plan(ctx, file, importer.Options{DefaultTenant: devTenant, CreateOrganizations: true, Actor: "dev:seed"})
	if err != nil {
		return err
	}
	_, err = im.Apply(ctx, plan)
	return err
}

func devCommand(s streams, env environment) *cobra.Command {
	var dataDir, seed string
	var verbose bool
	c := &cobra.Command{
		Use: "dev", Short: "Everything in one process, on embedded defaults", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, s, env, config.ModeDev)
			if err != nil {
				return err
			}
			return runDev(c.Context(), s, env, cfg, devOptions{dataDir: dataDir, seed: seed, verbose: verbose})
		},
	}
	c.Flags().StringVar(&dataDir, "data-dir", defaultDataDir, "where everything is kept")
	c.Flags().StringVar(&seed, "seed", "", "data file to import (default: the bundled example, on the first start)")
	c.Flags().BoolVar(&verbose, "verbose", false, "log every request")
	return c
}

type devOptions struct {
	dataDir, seed string
	verbose       bool
}

// listener opens addr and names the variable that changes it when it is taken.
func listener(ctx context.Context, addr, variable string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be listened on (%w): stop what uses it, or set %s to another address", addr, err, variable)
	}
	return ln, nil
}

// takeDataDir opens the data dir for a dev. Another dev holds it for good and is
// an error at once; an import or a dev that is leaving is waited for.
func takeDataDir(ctx context.Context, dir string, kinds *providers.Registry, log *slog.Logger) (*embedded, error) {
	for end := time.Now().Add(handover); ; {
		e, err := openEmbedded(ctx, dir, kinds, log)
		if !errors.Is(err, errLocked) || time.Now().After(end) || devAnswers(ctx, dir) {
			return e, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func runDev(ctx context.Context, s streams, env environment, cfg *config.Config, o devOptions) error {
	level := "warn"
	if o.verbose {
		level = "debug"
	}
	log := obs.NewLogger(s.err, level)
	kinds, err := loadKinds(cfg, logKind(log))
	if err != nil {
		return err
	}

	// Listeners first: a port in use is the likeliest failure, and must leave
	// nothing behind.
	local, err := localListener(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = local.Close() }() // closed by its server as a rule
	admin, err := listener(ctx, cfg.Admin.Listen, "PATCHBAY_ADMIN_LISTEN")
	if err != nil {
		return err
	}
	defer func() { _ = admin.Close() }() // closed by its server as a rule
	probes, err := listener(ctx, cfg.Probes.Listen, "PATCHBAY_PROBES_LISTEN")
	if err != nil {
		return err
	}
	defer func() { _ = probes.Close() }() // closed by its server as a rule

	e, err := takeDataDir(ctx, o.dataDir, kinds, log)
	if err != nil {
		return err
	}
	defer e.close()
	for _, w := range e.warnings {
		fmt.Fprintf(s.err, "sidecar: warning: %s\n", w)
	}
	issuer, demo, err := e.prepare(ctx, o, env)
	if err != nil {
		if e.fresh {
			e.discard()
		}
		return err
	}
	ctl, err := newControl(ctx, e, apiAddress{URL: shownAddress(local), Localhost: asLocalhost(local)})
	if err != nil {
		return err
	}
	defer ctl.close()
	out, err := newNetwork(cfg, log, ownServers{}, local, admin, probes)
	if err != nil {
		return err
	}
	bound := e.kinds.Bind(out.runtime)
	bus := resolver.NewBus()
	relay := resolver.NewRelay(e.store, bus, log)
	p, err := newPlane(planeOptions{
		config: cfg, issuers: []tenant.Issuer{issuer.VerifierIssuer()}, kinds: bound, log: log,
		store: e.store, secrets: e.secrets, feed: bus, local: local, unix: cfg.Local.Socket != "", probes: probes,
		tokens: &tokenParts{store: e.store, grants: e.secrets, out: out, log: log},
	})
	if err != nil {
		return err
	}
	p.background("relay", relay.Run)
	relayMetrics(p.metrics, relay)
	p.sweeper(e.store, e.secrets)
	svc, err := newService(e.store, e.secrets, bound, p.minted, log)
	if err != nil {
		return err
	}
	p.lifecycle(e.store, svc, false)
	p.background("control", ctl.run)
	if cfg.Admin.PublicURL == "" { // this laptop's browser calls it so
		cfg.Admin.PublicURL = "http://" + callable(admin.Addr().String())
	}
	control, err := httpapi.NewAdmin(httpapi.AdminOptions{
		JWKS: issuer.JWKS, CheckHost: true, AllowedHosts: cfg.Local.AllowedHosts,
		API: adminOptions(cfg, p.verifier, svc, newImporter(e.store, e.secrets, bound, nil), bound, p),
	})
	if err != nil {
		return err
	}
	p.serve(control, admin)
	p.announce = func() error { return devBanner(s, issuer, cfg, local, admin, probes, o, demo) }
	return p.run(ctx)
}

// prepare opens the issuer and imports the seed where one is due.
func (e *embedded) prepare(ctx context.Context, o devOptions, env environment) (*devissuer.Issuer, demo, error) {
	folder := filepath.Join(e.dir, issuerDir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, demo{}, fmt.Errorf("the data dir %s cannot be written: %w", e.dir, err)
	}
	issuer, err := devissuer.Open(folder)
	if err != nil {
		return nil, demo{}, err
	}
	// An empty store is a first start too: one that was killed before its seed was
	// in left it so.
	d, err := e.demo(ctx, "", demoCategory)
	if err == nil && (d.tenant.IsZero() || o.seed != "") {
		if err = e.seed(ctx, o.seed, env); err == nil {
			d, err = e.demo(ctx, "", demoCategory)
		}
	}
	return issuer, d, err
}

// demo is whom the banner's curl line asks for.
type demo struct {
	tenant       tenant.ID
	organization tenant.OrganizationID
	answers      bool // there is a default for storage
}

// demoCategory is what the banner's curl line asks for.
const demoCategory = "storage"

// demo finds an organization that has a default for a category, of the tenant
// named or, for "", of any: acme of the bundled example, or whatever a seed
// brought. With none it is the first there is.
func (e *embedded) demo(ctx context.Context, name string, category providers.Category) (demo, error) {
	tenants, err := e.store.Tenants(ctx, connector.TenantFilter{})
	if err != nil {
		return demo{}, err
	}
	var first demo
	for _, t := range tenants {
		if name != "" && t.ID.String() != name {
			continue
		}
		reader := e.store.Tenant(t.ID)
		organizations, err := reader.Organizations(ctx, connector.OrganizationFilter{})
		if err != nil {
			return demo{}, err
		}
		ids := make([]tenant.OrganizationID, 0, len(organizations)+1)
		for _, o := range organizations {
			ids = append(ids, o.ID)
		}
		for _, id := range append(ids, tenant.OrganizationID{}) {
			d := demo{tenant: t.ID, organization: id}
			if first.tenant.IsZero() {
				first = d
			}
			snapshot, err := reader.Default(ctx, id, category)
			if err != nil {
				return demo{}, err
			}
			if snapshot.Tenant == connector.StatusReady && snapshot.Organization != connector.OrganizationInactive && snapshot.Connector != nil {
				d.answers = true
				return d, nil
			}
		}
	}
	return first, nil
}

// devBanner says what runs where, with a line to paste.
func devBanner(s streams, issuer *devissuer.Issuer, cfg *config.Config, local, admin, probes net.Listener, o devOptions, d demo) error {
	var b strings.Builder
	base, curl := shownAddress(local), "curl -s"
	if local.Addr().Network() == "unix" {
		curl += " --unix-socket " + quoted(local.Addr().String())
		base = "http://localhost"
	}
	if asLocalhost(local) {
		curl += ` -H "Host: localhost"`
	}
	if cfg.Local.TokenFile != "" {
		curl += ` -H "X-Patchbay-Token: $(cat ` + quoted(cfg.Local.TokenFile) + `)"`
	}
	fmt.Fprintf(&b, `Patchbay is up, on embedded defaults in %s

  local API   %s
  admin API   http://%s/api/docs (tokens: %s token --data-dir %s --tenant TENANT --orgs '*' --subject ME --roles connectors.read,connectors.write)
  probes      http://%s/readyz

`, o.dataDir, shownAddress(local), callable(admin.Addr().String()), self(), quoted(o.dataDir), callable(probes.Addr().String()))
	for _, warning := range []string{
		leftLoopback("local API", local, "PATCHBAY_LOCAL_LISTEN", "whoever reaches it with a token of this dev gets secrets"),
		leftLoopback("admin listener", admin, "PATCHBAY_ADMIN_LISTEN", "whoever reaches it with a token of this dev manages connectors"),
		leftLoopback("probes listener", probes, "PATCHBAY_PROBES_LISTEN", "whoever reaches it reads its health and metrics, without a token"),
	} {
		if warning != "" {
			b.WriteString(warning + "\n")
		}
	}
	if d.tenant.IsZero() {
		b.WriteString("There is no tenant yet. Import one:  " + self() + " import --data-dir " + quoted(o.dataDir) + " FILE\n")
	} else {
		claims := devissuer.Claims{Tenant: d.tenant.String(), Organization: d.organization.String(), TTL: 24 * time.Hour}
		token, err := issuer.Mint(claims)
		if err != nil {
			return err
		}
		who := d.tenant.String()
		if !d.organization.IsZero() {
			who += ", organization " + d.organization.String()
		}
		if d.answers {
			fmt.Fprintf(&b, "The %s backend of tenant %s, ready to use (the token lives 24 h):\n\n", demoCategory, who)
		} else {
			fmt.Fprintf(&b, "No connector is the default for %s yet; this asks for tenant %s (the token lives 24 h):\n\n", demoCategory, who)
		}
		fmt.Fprintf(&b, "  %s -H \"Authorization: Bearer %s\" %s/v1/resolve/%s\n\n", curl, token, base, demoCategory)
		fmt.Fprintf(&b, "Another token:  %s token --data-dir %s --tenant TENANT --org ORGANIZATION\n", self(), quoted(o.dataDir))
	}
	b.WriteString("Connectors may point at loopback here; sidecar serve denies that. Ctrl-C stops.\n")
	_, err := io.WriteString(s.out, b.String())
	return err
}

// self is how whoever started this program starts it again: `go run` builds into
// a folder that nobody types.
func self() string {
	if path, err := os.Executable(); err == nil && strings.Contains(path, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/sidecar"
	}
	return "sidecar"
}

// quoted is a word of a shell.
func quoted(word string) string {
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+,=", r)
	}) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func absent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, os.ErrNotExist)
}

// discard removes what a failed first start made, so that the next one is a
// first start again. Called with the lock held; what was there before stays: a
// key that `sidecar token` made has signed tokens already.
func (e *embedded) discard() {
	for _, path := range e.made {
		_ = os.RemoveAll(path) // the first error is the one to report
	}
	if e.madeDir {
		_ = os.Remove(e.dir) // not what somebody else put there meanwhile
	}
}
