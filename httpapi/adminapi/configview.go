package adminapi

import (
	"context"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/tenant"
)

// ConfigView is an assembled config.
type ConfigView struct {
	ID      string         `json:"id" format:"uuid"`
	Kind    string         `json:"kind"`
	Params  map[string]any `json:"params" doc:"What is set, plus defaults."`
	Secrets map[string]any `json:"secrets" doc:"Masked as objects; with reveal the values of those that are set."`
}

type configInput struct {
	OnePath
	Values bool `query:"reveal" doc:"Show the values of secrets."`
}

func (a *API) getConfig(ctx context.Context, k *call, in *configInput) (*struct{ Body ConfigView }, error) {
	if in.Values && !k.can(tenant.SecretsRead) {
		return nil, fault.Newf(fault.PermissionDenied, "this needs the permission %s", string(tenant.SecretsRead))
	}
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	cfg, err := a.o.Service.GetConfig(ctx, k.scope, id, in.Values)
	if err != nil {
		return nil, err
	}
	out := ConfigView{ID: cfg.Connector.String(), Kind: string(cfg.Kind), Params: cfg.Params, Secrets: map[string]any{}}
	for name, s := range secretStatuses(cfg.Secrets) {
		out.Secrets[name] = s
	}
	if in.Values {
		for name, v := range cfg.Values {
			if v.IsSet() {
				out.Secrets[name] = v.Reveal()
			}
		}
	}
	return &struct{ Body ConfigView }{out}, nil
}
