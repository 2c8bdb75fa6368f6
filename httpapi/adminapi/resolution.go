package adminapi

import (
	"context"

	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/tenant"
)

// Resolution says which connector answers.
type Resolution struct {
	OrganizationID *string     `json:"organization_id"`
	Category       string      `json:"category"`
	ConnectorID    *string     `json:"connector_id" doc:"null: none answers."`
	Problem        *Refusal    `json:"problem" doc:"Why none answers; null when one does."`
	Candidates     []Candidate `json:"candidates,omitempty" doc:"With explain=true: those that could answer."`
}

// Refusal is why nothing answers, by the code that the local API gives.
type Refusal struct {
	Code   string `json:"code" example:"no_default_connector"`
	Detail string `json:"detail"`
}

// Candidate is a connector that could answer.
type Candidate struct {
	ID             string  `json:"id" format:"uuid"`
	Name           string  `json:"name"`
	Kind           string  `json:"kind"`
	OrganizationID *string `json:"organization_id" doc:"null: tenant-wide."`
	State          string  `json:"state"`
	Active         bool    `json:"active"`
	IsDefault      bool    `json:"is_default"`
	Reason         string  `json:"reason" enum:"answers,inactive,not_default,overridden,needs_reauthorization,blocked"`
}

type resolveInput struct {
	Category       string `query:"category" required:"true" example:"storage"`
	OrganizationID string `query:"organization_id" doc:"Absent: only tenant-wide defaults answer."`
	Explain        bool   `query:"explain" doc:"List every candidate with the reason."`
}

type resolveOutput struct {
	Revision int64 `header:"X-Patchbay-Revision" doc:"The tenant's revision when this was read."`
	Body     Resolution
}

func (a *API) resolve(ctx context.Context, k *call, in *resolveInput) (*resolveOutput, error) {
	var org tenant.OrganizationID
	if in.OrganizationID != "" {
		var err error
		if org, err = tenant.ParseOrganizationID(in.OrganizationID); err != nil {
			return nil, problems([]fault.Violation{{Pointer: "/query/organization_id", Code: "format", Message: "must be an organization id"}})
		}
	}
	e, err := a.o.Service.Explain(ctx, k.scope, org, providers.Category(in.Category))
	if err != nil {
		return nil, err
	}
	out := &resolveOutput{Revision: e.Revision, Body: Resolution{OrganizationID: idText(e.Organization), Category: string(e.Category),
		ConnectorID: ref(e.Answer.String(), !e.Answer.IsZero())}}
	if e.Problem != nil {
		p := problem.Of(e.Problem, "")
		out.Body.Problem = &Refusal{Code: p.Code, Detail: p.Detail}
	}
	if !in.Explain {
		return out, nil
	}
	out.Body.Candidates = []Candidate{}
	for _, c := range e.Candidates {
		out.Body.Candidates = append(out.Body.Candidates, Candidate{ID: c.ID.String(), Name: c.Name, Kind: string(c.Kind),
			OrganizationID: idText(c.Organization), State: string(c.State), Active: c.Active, IsDefault: c.Default, Reason: string(c.Reason)})
	}
	return out, nil
}
