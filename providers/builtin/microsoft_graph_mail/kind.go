package graphmail

import (
	_ "embed"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/httpkind"
)

//go:embed kind.yaml
var file []byte

// New returns the provider, which has no way to the network yet.
func New() providers.Provider { return httpkind.MustParse("microsoft_graph_mail/kind.yaml", file) }
