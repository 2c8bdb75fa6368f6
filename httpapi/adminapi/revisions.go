package adminapi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/strictjson"
)

// Revision is one past state of a connector.
type Revision struct {
	Version   int64     `json:"version" minimum:"1" doc:"The connector's."`
	Revision  int64     `json:"revision" doc:"The tenant's."`
	Actor     string    `json:"actor"`
	At        time.Time `json:"at"`
	Connector Connector `json:"connector" doc:"As it was."`
	Changes   []Change  `json:"changes" doc:"What this version changed of the one before; empty for the first."`
}

// Change is one difference between two versions.
type Change struct {
	Pointer string          `json:"pointer" doc:"Where, in the connector." example:"/params/bucket"`
	From    json.RawMessage `json:"from,omitempty" doc:"Absent: it was not set. Of a secret its version."`
	To      json.RawMessage `json:"to,omitempty" doc:"Absent: it is not set any more. Of a secret its version."`
}

type revisionsInput struct {
	OnePath
	Cursor string `query:"cursor" maxLength:"200" doc:"next_cursor of the page before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"200" default:"50"`
}

// RevisionList is a page of revisions.
type RevisionList struct {
	Items      []Revision `json:"items"`
	NextCursor *string    `json:"next_cursor" doc:"null on the last page."`
}

type revisionInput struct {
	OnePath
	N int64 `path:"n" minimum:"1" doc:"The version to go back to."`
	Matched
}

func (a *API) restoreRevision(ctx context.Context, k *call, in *revisionInput) (*written, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	w, err := demanded(ctx, k, id, func(version int64) (connector.Written, error) {
		return a.o.Service.RestoreRevision(ctx, k.scope, id, in.N, version)
	})
	if err != nil {
		return nil, err
	}
	return a.written(w)
}

var revisionsCursor = cursor[int64]{"revisions", position}

func (a *API) revisions(ctx context.Context, k *call, in *revisionsInput) (*struct{ Body RevisionList }, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	before, err := revisionsCursor.key(in.Cursor)
	if err != nil {
		return nil, err
	}
	// One more than is shown: what the last one changed is seen beside it.
	page, err := a.o.Service.History(ctx, k.scope, id, before, min(in.Limit+1, connector.MaxPage+1))
	if err != nil {
		return nil, err
	}
	out := RevisionList{Items: []Revision{}}
	for i := range page[:min(len(page), in.Limit)] {
		r := &page[i]
		shaped, err := a.shape(&r.Connector)
		if err != nil {
			return nil, err
		}
		item := Revision{Version: r.Version, Revision: r.Revision, Actor: r.Actor, At: r.At.UTC(), Connector: shaped, Changes: []Change{}}
		if i+1 < len(page) {
			if item.Changes, err = differences(&page[i+1].Connector, &r.Connector); err != nil {
				return nil, err
			}
		}
		out.Items = append(out.Items, item)
	}
	if len(page) > in.Limit {
		out.NextCursor = revisionsCursor.next(page[in.Limit-1].Version)
	}
	return &struct{ Body RevisionList }{out}, nil
}

// differences are what is another in now than it was in then: everything that a
// write changes, by name and value, and of secrets the version numbers.
func differences(then, now *connector.Connector) ([]Change, error) {
	before, after := flat(then), flat(now)
	out := []Change{}
	names := maps.Clone(before)
	maps.Copy(names, after)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		from, had := before[name]
		to, has := after[name]
		if had == has && (!had || connector.SameValue(from, to)) {
			continue
		}
		c := Change{Pointer: name}
		var err error
		if had {
			c.From, err = json.Marshal(from)
		}
		if has && err == nil {
			c.To, err = json.Marshal(to)
		}
		if err != nil {
			return nil, fault.New(fault.Internal, "a stored value can't be written").WithCause(err)
		}
		out = append(out, c)
	}
	return out, nil
}

// flat is what can differ between two versions, by pointer.
func flat(c *connector.Connector) map[string]any {
	out := map[string]any{
		"/name": c.Name, "/active": c.Active, "/is_default": c.Default, "/block_pinned": c.BlockPinned, "/deleted": !c.DeletedAt.IsZero(),
	}
	for name, p := range c.Params {
		if p.Value != nil {
			out["/params/"+strictjson.Escape(name)] = p.Value
		}
	}
	for name, s := range c.Secrets {
		out["/secrets/"+strictjson.Escape(name)+"/version"] = s.Version
	}
	return out
}

// parseObject reads a file's JSON object.
func parseObject(file []byte) (map[string]any, error) {
	v, err := strictjson.Parse(file)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fault.New(fault.InvalidArgument, "it holds something else")
	}
	return m, nil
}
