package command

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/patchbay-dev/patchbay/httpapi/adminapi"
)

func openAPICommand(s streams, env environment) *cobra.Command {
	var publicURL string
	c := &cobra.Command{
		Use: "openapi", Short: "Print the admin API's OpenAPI document", Args: cobra.NoArgs,
		Long: "Prints the OpenAPI 3.1 document that a control plane of this build serves at\n" +
			"/api/openapi.json, with the kinds that the config adds.",
		RunE: func(c *cobra.Command, _ []string) error {
			kinds, err := configuredKinds(c, s, env)
			if err != nil {
				return err
			}
			document, err := adminapi.Describe(kinds, version, publicURL)
			if err != nil {
				return err
			}
			var out bytes.Buffer
			if err := json.Indent(&out, document, "", "  "); err != nil {
				return fmt.Errorf("the document: %w", err)
			}
			out.WriteByte('\n')
			_, err = out.WriteTo(s.out)
			return err
		},
	}
	c.Flags().StringVar(&publicURL, "server", "", "the server that the document names (default: where it is read from)")
	return c
}
