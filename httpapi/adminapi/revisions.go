package adminapi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/strictjson"
)

const cursorRevisions = "revisions"

func (a *API) revisions(ctx context.Context, k *call, in *revisionsInput) (*struct{ Body RevisionList }, error) {
	id, err := parseID(in.ID)
	if err != nil {
		return nil, err
	}
	key, err := keyOf(cursorRevisions, in.Cursor)
	if err != nil {
		return nil, err
	}
	var before int64
	if key != "" {
		if before, err = strconv.ParseInt(key, 10, 64); err != nil || before < 1 {
			return nil, badCursor()
		}
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
		out.NextCursor = ref(cursorOf(cursorRevisions, strconv.FormatInt(page[in.Limit-1].Version, 10)), true)
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
