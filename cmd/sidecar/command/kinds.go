package command

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/internal/config"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin"
	"github.com/patchbay-dev/patchbay/providers/httpkind"
)

// loadKinds returns every kind that this process knows: built in, compiled in and
// declared in the operator's folder. A file there that cannot be used is told to
// report, with its line, and stops nothing else.
func loadKinds(cfg *config.Config, report func(httpkind.Problem)) (*providers.Registry, error) {
	var declared []providers.Provider
	if dir := cfg.Providers.DeclaredDir; dir != "" {
		var problems []httpkind.Problem
		declared, problems = httpkind.LoadDir(dir, append(builtin.Providers(), providers.Registered()...)...)
		for _, p := range problems {
			report(p)
		}
	}
	return builtin.Registry(declared...)
}

// logKind is the report of processes that log.
func logKind(log *slog.Logger) func(httpkind.Problem) {
	return func(p httpkind.Problem) { log.Warn("a declared kind cannot be used", "error", p.String()) }
}

// configuredKinds is loadKinds for commands that need nothing else of the config.
func configuredKinds(c *cobra.Command, s streams, env environment) (*providers.Registry, error) {
	cfg, _, err := readConfig(c, env, config.ModeNone)
	if err != nil {
		return nil, err
	}
	return loadKinds(cfg, func(p httpkind.Problem) { fmt.Fprintf(s.err, "sidecar: warning: %s\n", p) })
}

func kindsCommand(s streams, env environment) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "kinds [KIND]", Short: "List the kinds, or show one kind's schema", Args: cobra.MaximumNArgs(1),
		Long: "Lists the kinds of connector, or shows what one of them wants to know. With --json the\n" +
			"list is an array, one kind an object of the same shape with its JSON Schema.",
		Example: "  sidecar kinds\n  sidecar kinds s3\n  sidecar kinds s3 --json",
		RunE: func(c *cobra.Command, args []string) error {
			kinds, err := configuredKinds(c, s, env)
			if err != nil {
				return err
			}
			switch {
			case len(args) == 0 && asJSON:
				return printJSON(s, kinds.Describe())
			case len(args) == 0:
				return printKinds(s.out, kinds)
			}
			p, ok := kinds.Lookup(args[0])
			switch {
			case !ok:
				if near := kinds.Suggest(args[0]); near != "" {
					return usagef("%q is not a kind; did you mean %s? `sidecar kinds` lists them", args[0], near)
				}
				return usagef("%q is not a kind; `sidecar kinds` lists them", args[0])
			case asJSON:
				return printJSON(s, struct {
					providers.KindInfo
					JSONSchema map[string]any `json:"json_schema"` // 2020-12, with x-patchbay-* keywords
				}{p.Schema().Describe(), p.Schema().JSONSchema()})
			default:
				return printKind(s.out, p.Schema())
			}
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printKinds(out io.Writer, kinds *providers.Registry) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "KIND\tCATEGORY\tLABEL")
	for _, p := range kinds.Kinds() {
		fmt.Fprintf(w, "%s\t%s\t%s\n", p.Schema().Kind, p.Schema().Category, p.Schema().Label)
	}
	return w.Flush()
}

func printJSON(s streams, v any) error {
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
