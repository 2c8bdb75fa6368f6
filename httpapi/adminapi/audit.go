package adminapi

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/httpapi/problem"
	"github.com/patchbay-dev/patchbay/tenant"
)

const tagAudit = "Audit"

// AuditEntry says who did what, when.
type AuditEntry struct {
	ID        string    `json:"id"`
	At        time.Time `json:"at"`
	Actor     string    `json:"actor" doc:"Issuer and subject of a token, or what of the control plane acted by itself."`
	Action    string    `json:"action" example:"connector.update"`
	Target    string    `json:"target" doc:"The id of what it was done to."`
	Outcome   string    `json:"outcome" doc:"ok, or the code of the refusal."`
	RequestID string    `json:"request_id"`
	Fields    []string  `json:"fields" doc:"Names of what changed, never values."`
	Note      string    `json:"note" doc:"The reason that was given where one was asked for."`
}

// AuditList is a page of the audit.
type AuditList struct {
	Items      []AuditEntry `json:"items"`
	NextCursor *string      `json:"next_cursor" doc:"null on the last page."`
}

// AuditQuery narrows the audit.
type AuditQuery struct {
	Actor     string    `query:"actor" maxLength:"500"`
	Action    string    `query:"action" maxLength:"100" doc:"A whole one, or with a * at its end all that begin so." example:"connector.*"`
	Target    string    `query:"target" maxLength:"100"`
	Outcome   string    `query:"outcome" maxLength:"100"`
	RequestID string    `query:"request_id" maxLength:"100"`
	From      time.Time `query:"from" doc:"Not before this."`
	To        time.Time `query:"to" doc:"Before this."`
}

func (q AuditQuery) filter() connector.AuditFilter {
	return connector.AuditFilter{Actor: q.Actor, Action: q.Action, Target: q.Target, Outcome: q.Outcome, RequestID: q.RequestID, From: q.From, To: q.To}
}

func shapeEntry(e connector.AuditEntry) AuditEntry {
	return AuditEntry{ID: strconv.FormatInt(e.ID, 10), At: e.At.UTC(), Actor: e.Actor, Action: e.Action, Target: e.Target, Outcome: e.Outcome,
		RequestID: e.RequestID, Fields: append([]string{}, e.Fields...), Note: e.Note}
}

// brokenOff is the last line of an export that didn't reach its end.
type brokenOff struct {
	Problem problem.Problem `json:"problem"`
}

var auditCursor = cursor[int64]{"audit", position}

// exportTimeout bounds an export of the audit, which holds a connection.
const exportTimeout = 5 * time.Minute

func (a *API) audit() {
	register(a, operation{
		Operation: huma.Operation{OperationID: "list-audit", Method: http.MethodGet, Path: "/api/audit", Tags: []string{tagAudit},
			Summary: "Who did what, when", Description: "Newest first. Who is bound to organizations sees what is about them."},
		permission: tenant.ConnectorsRead,
	}, func(ctx context.Context, k *call, in *struct {
		AuditQuery
		Cursor string `query:"cursor" maxLength:"200" doc:"next_cursor of the page before."`
		Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
	}) (*struct{ Body AuditList }, error) {
		f := in.filter()
		f.Limit = in.Limit
		var err error
		if f.Before, err = auditCursor.key(in.Cursor); err != nil {
			return nil, err
		}
		page, err := a.o.Service.Audit(ctx, k.scope, f)
		if err != nil {
			return nil, err
		}
		return &struct{ Body AuditList }{AuditList{shaped(page.Items, shapeEntry), auditCursor.next(page.Next)}}, nil
	})
	register(a, operation{
		Operation: huma.Operation{OperationID: "export-audit", Method: http.MethodGet, Path: "/api/audit/export", Tags: []string{tagAudit},
			Summary:     "Export the audit",
			Description: "As JSON Lines, newest first: one entry per line. An export that breaks off ends with a line that has `problem` alone.",
			Responses: map[string]*huma.Response{"200": {Description: "The entries.", Content: map[string]*huma.MediaType{
				jsonLines: {Schema: &huma.Schema{Type: huma.TypeString, Description: "One JSON object per line."}},
			}}}},
		permission: tenant.ConnectorsRead,
	}, func(ctx context.Context, k *call, in *AuditQuery) (*struct{ Body func(huma.Context) }, error) {
		f := in.filter()
		f.Limit = connector.MaxPage
		// The first page is read before the answer begins, so that what is wrong is an
		// answer of its own.
		first, err := a.o.Service.Audit(ctx, k.scope, f)
		if err != nil {
			return nil, err
		}
		scope, id := k.scope, k.id
		return &struct{ Body func(huma.Context) }{func(h huma.Context) {
			c := humafiber.Unwrap(h)
			c.Set(fiber.HeaderContentType, jsonLines)
			c.Set(fiber.HeaderContentDisposition, `attachment; filename="audit.jsonl"`)
			c.Context().SetBodyStreamWriter(func(w *bufio.Writer) { a.stream(w, scope, id, f, first) })
		}}, nil
	})
}

const jsonLines = "application/jsonl"

// stream writes the audit page by page. It runs after its handler, on a context of
// its own; a client that has gone ends it at the next flush.
func (a *API) stream(w *bufio.Writer, sc connector.Scope, id string, f connector.AuditFilter, page connector.AuditPage) {
	ctx, cancel := context.WithTimeout(context.Background(), exportTimeout)
	defer cancel()
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	for {
		for _, e := range page.Items {
			if err := out.Encode(shapeEntry(e)); err != nil {
				return
			}
		}
		if w.Flush() != nil || page.Next == 0 {
			return
		}
		f.Before = page.Next
		var err error
		if page, err = a.o.Service.Audit(ctx, sc, f); err != nil {
			if err := out.Encode(brokenOff{problem.Of(err, id)}); err != nil {
				return // the client has gone
			}
			_ = w.Flush() // it may go now
			return
		}
	}
}
