package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/providers/builtin"
)

func kindsCommand(s streams) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "kinds [KIND]", Short: "List the kinds, or show one kind's schema", Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			kinds, err := builtin.Registry()
			if err != nil {
				return err
			}
			if len(args) == 1 {
				p, ok := kinds.Lookup(args[0])
				if !ok {
					return usagef("%q is not a kind; `sidecar kinds` lists them", args[0])
				}
				return printJSON(s, p.Schema().JSONSchema())
			}
			if asJSON {
				return printJSON(s, kinds.Describe())
			}
			w := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
			fmt.Fprintln(w, "KIND\tCATEGORY\tLABEL")
			for _, p := range kinds.Kinds() {
				fmt.Fprintf(w, "%s\t%s\t%s\n", p.Schema().Kind, p.Schema().Category, p.Schema().Label)
			}
			return w.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func printJSON(s streams, v any) error {
	e := json.NewEncoder(s.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
