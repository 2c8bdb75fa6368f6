package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/connector/postgres"
	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/obs"
	"github.com/patchbay-dev/patchbay/providers/httpkind"
	"github.com/patchbay-dev/patchbay/tenant"
	"github.com/patchbay-dev/patchbay/vault"
)

// checkTimeout bounds the look at one dependency.
const checkTimeout = 5 * time.Second

// maxSkew is the clock skew that coherence allows for (DESIGN 6).
const maxSkew = time.Second

func checkCommand(s streams, env environment) *cobra.Command {
	var show bool
	c := &cobra.Command{
		Use: "check", Short: "Validate the config, then reach each dependency", Args: cobra.NoArgs,
		Long: "Validates the config as `sidecar serve` reads it, and then reaches each dependency. With --print\n" +
			"the config in effect comes first, as YAML: defaults, file, environment and flags together,\n" +
			"without secrets.",
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(c, s, env, config.ModeServe)
			if err != nil {
				return err
			}
			if show {
				if _, err := fmt.Fprintln(s.out, cfg.Redacted()); err != nil {
					return err
				}
			}
			return runCheck(c.Context(), s, cfg)
		},
	}
	c.Flags().BoolVar(&show, "print", false, "print the config in effect first, without secrets")
	return c
}

// runCheck reports every dependency, also after one has failed.
func runCheck(ctx context.Context, s streams, cfg *config.Config) error {
	log := obs.NewLogger(io.Discard, "error") // what is wrong is on stdout already
	u, err := openUpstreams(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer u.close()
	roots, err := keyServerRoots(cfg)
	if err != nil {
		return err
	}
	type row struct {
		name  string
		check func(ctx context.Context) error
	}
	rows := []row{
		{"postgres", func(ctx context.Context) error { return checkPostgres(ctx, u.store) }},
		{"vault", func(ctx context.Context) error { return checkVault(ctx, u) }},
	}
	if u.redis != nil {
		rows = append(rows, row{"redis", u.redis.Ping})
	}
	if cfg.Providers.DeclaredDir != "" {
		rows = append(rows, row{"kinds", func(context.Context) error { return checkKinds(cfg) }})
	}
	for _, i := range issuersOf(cfg) {
		rows = append(rows, row{"issuer " + i.Issuer, func(ctx context.Context) error {
			v, err := tenant.NewVerifier(tenant.VerifierOptions{
				Issuers: []tenant.Issuer{i}, RoleMap: permissions(cfg.JWT.Roles), Log: log, RootCAs: roots,
			})
			if err != nil {
				return err
			}
			return v.Refresh(ctx)
		}})
	}
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "config\tok")
	var failed []string
	for _, r := range rows {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		err := r.check(ctx)
		cancel()
		if err == nil {
			fmt.Fprintf(w, "%s\tok\n", r.name)
			continue
		}
		failed = append(failed, r.name)
		// For the operator's terminal, cause included: it says which host and why.
		fmt.Fprintf(w, "%s\tFAILED: %s\n", r.name, printed(err))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(failed) > 0 {
		return fmt.Errorf("not all is well (%s): see the lines above", strings.Join(failed, ", "))
	}
	return nil
}

// checkKinds tells every problem of the declared kinds.
func checkKinds(cfg *config.Config) error {
	var problems []string
	_, err := loadKinds(cfg, func(p httpkind.Problem) { problems = append(problems, p.String()) })
	if err == nil && problems != nil {
		err = errors.New(strings.Join(problems, "; "))
	}
	return err
}

func checkPostgres(ctx context.Context, store *postgres.Store) error {
	before := time.Now()
	at, err := store.Ping(ctx)
	if err != nil {
		return err
	}
	if skew := clockSkew(before, at, time.Now()); skew > maxSkew {
		return fault.Newf(fault.Unavailable, "the clocks differ by %s, more than %s breaks freshness: synchronise them (NTP)",
			skew.Round(time.Millisecond), maxSkew)
	}
	return store.CheckSchema(ctx)
}

// clockSkew is how far the other side's time lies outside of the question's: how
// long the question took is not the clock's fault.
func clockSkew(before, at, after time.Time) time.Duration {
	return max(before.Sub(at), at.Sub(after), 0)
}

// checkVault logs in, or where every caller brings a right of its own, looks
// whether Vault is there.
func checkVault(ctx context.Context, u *upstreams) error {
	if u.callers != nil {
		return u.callers.Ready(ctx)
	}
	return awaitLogin(ctx, u.secrets)
}

// awaitLogin waits for the outcome of the first login, which is under way.
func awaitLogin(ctx context.Context, v *vault.Client) error {
	for {
		err := v.Ready(ctx)
		if err == nil || v.Status().LastError != "" {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func printMigrations(s streams, states []postgres.MigrationState) error {
	w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "VERSION\tNAME\tAPPLIED")
	for _, m := range states {
		applied, name := "no", m.Name
		if m.Applied {
			applied = m.AppliedAt.Format(time.RFC3339)
		}
		if name == "" {
			name = "(of a newer build)"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\n", m.Version, name, applied)
	}
	return w.Flush()
}
