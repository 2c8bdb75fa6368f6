package adminapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tagKinds = "Kinds"

// KindSummary is a kind in a list.
type KindSummary struct {
	Kind          string   `json:"kind" example:"s3"`
	Aliases       []string `json:"aliases"`
	Category      string   `json:"category" example:"storage"`
	CategoryLabel string   `json:"category_label"`
	Label         string   `json:"label" example:"Amazon S3 and compatible"`
	Description   string   `json:"description"`
	Status        string   `json:"status" doc:"How mature it is."`
	Version       int      `json:"version" doc:"Of its schema."`
	Docs          string   `json:"docs" doc:"The vendor's own documentation; empty for none."`
}

// KindList lists the kinds.
type KindList struct {
	Items []KindSummary `json:"items"`
}

func (a *API) kinds() {
	register(a, operation{
		Operation: huma.Operation{OperationID: "list-kinds", Method: http.MethodGet, Path: "/api/connectors/types", Tags: []string{tagKinds},
			Summary: "List the kinds of connectors"},
		permission: tenant.ConnectorsRead,
	}, func(context.Context, *call, *struct{}) (*struct{ Body KindList }, error) {
		out := KindList{Items: []KindSummary{}}
		for _, p := range a.o.Kinds.Kinds() {
			out.Items = append(out.Items, summaryOf(a.o.Kinds, p.Schema()))
		}
		return &struct{ Body KindList }{out}, nil
	})
	register(a, operation{
		Operation: huma.Operation{OperationID: "get-kind", Method: http.MethodGet, Path: "/api/connectors/types/{kind}", Tags: []string{tagKinds},
			Summary: "Read a kind's schema", Description: "JSON Schema 2020-12 of `{\"params\", \"secrets\"}`; what it can't say is in `x-patchbay-*`."},
		permission: tenant.ConnectorsRead,
	}, func(_ context.Context, _ *call, in *struct {
		Kind string `path:"kind" doc:"Its name or an alias." example:"s3"`
	}) (*struct{ Body map[string]any }, error) {
		p, ok := a.o.Kinds.Lookup(in.Kind)
		if !ok {
			message := "there is no such kind"
			if near := a.o.Kinds.Suggest(in.Kind); near != "" {
				message += "; did you mean " + near + "?"
			}
			return nil, fault.New(fault.NotFound, message)
		}
		return &struct{ Body map[string]any }{p.Schema().JSONSchema()}, nil
	})
}

func summaryOf(kinds *providers.Registry, s *providers.Schema) KindSummary {
	out := KindSummary{Kind: string(s.Kind), Aliases: []string{}, Category: string(s.Category), Label: s.Label, Description: s.Description,
		Status: string(s.Status), Version: s.Version, Docs: s.Docs}
	for _, alias := range s.Aliases {
		out.Aliases = append(out.Aliases, string(alias))
	}
	for _, c := range kinds.Categories() {
		if c.Category == s.Category {
			out.CategoryLabel = c.Label
		}
	}
	return out
}
