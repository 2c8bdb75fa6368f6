package change

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/patchbay-dev/patchbay/connector"
	"github.com/patchbay-dev/patchbay/internal/fault"
)

// Text refuses what Postgres can't keep as text: bytes that are not UTF-8, and
// NUL. A store that took them would be one that can't be moved away from.
func Text(fields ...string) error {
	for _, s := range fields {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return fault.New(fault.InvalidArgument, "a text must be valid UTF-8 without NUL")
		}
	}
	return nil
}

// Check tells whether a connector can be written, before anything is.
// Errors: fault.InvalidArgument.
func Check(c *connector.Connector) error {
	if c.ID.IsZero() {
		return fault.New(fault.InvalidArgument, "a connector needs an id")
	}
	if err := Text(c.ExternalID, c.Name); err != nil {
		return err
	}
	if c.Default && !c.Active {
		return fault.New(fault.InvalidArgument, "a default connector is active")
	}
	if c.Pin.IsZero() && len(c.Secrets) > 0 {
		return fault.New(fault.InvalidArgument, "a connector with secrets has a pin")
	}
	if len(c.LastTest) > 0 {
		if err := checkReport(c.LastTest); err != nil {
			return err
		}
	}
	for name, p := range c.Params {
		if _, twice := c.Secrets[name]; twice {
			return fault.New(fault.InvalidArgument, "a param is a value or a secret, not both")
		}
		if err := Text(name); err != nil {
			return err
		}
		if _, _, err := EncodeParam(p); err != nil {
			return err
		}
	}
	for name := range c.Secrets {
		if err := Text(name); err != nil {
			return err
		}
	}
	return nil
}

// DropCleared removes the params that only remember what was imported: whoever
// resolves must not take one for set. c's maps are its caller's own.
func DropCleared(c *connector.Connector) {
	maps.DeleteFunc(c.Params, func(_ string, p connector.Param) bool { return p.Value == nil })
}

// CheckUpdate is Check for a connector that replaces another version of itself.
func CheckUpdate(old, next *connector.Connector) error {
	if next.ID != old.ID || next.Kind != old.Kind || next.Category != old.Category || next.Organization != old.Organization {
		return fault.New(fault.InvalidArgument, "a connector's id, kind, category and organization never change")
	}
	return Check(next)
}

// Action names an update in the audit.
func Action(old, next *connector.Connector) string {
	switch {
	case old.DeletedAt.IsZero() && !next.DeletedAt.IsZero():
		return "connector.delete"
	case !old.DeletedAt.IsZero() && next.DeletedAt.IsZero():
		return "connector.restore"
	default:
		return "connector.update"
	}
}

// Copy is deep: its caller may edit what it gets, and the old state must stay to
// compare with. The maps are never nil.
func Copy(c *connector.Connector) connector.Connector {
	n := *c
	n.Params, n.Secrets = make(map[string]connector.Param, len(c.Params)), maps.Clone(c.Secrets)
	for name, p := range c.Params {
		p.Value, p.Imported = cloneValue(p.Value), cloneValue(p.Imported)
		n.Params[name] = p
	}
	if n.Secrets == nil {
		n.Secrets = map[string]connector.SecretInfo{}
	}
	n.LastTest = bytes.Clone(c.LastTest)
	return n
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = cloneValue(v[i])
		}
		return list
	case map[string]any:
		m := make(map[string]any, len(v))
		for key := range v {
			m[key] = cloneValue(v[key])
		}
		return m
	default:
		return v
	}
}

// Stamp dates, with the connector's own time, the params that their writer did
// not date. c's maps are its caller's own (Copy).
func Stamp(c *connector.Connector) {
	for name, p := range c.Params {
		if p.UpdatedAt.IsZero() {
			p.UpdatedAt = c.UpdatedAt
			c.Params[name] = p
		}
	}
	for name, s := range c.Secrets {
		if s.UpdatedAt.IsZero() {
			s.UpdatedAt = c.UpdatedAt
			c.Secrets[name] = s
		}
	}
}

// MessageOf is the outbox row of a connector's write.
func MessageOf(c *connector.Connector) connector.Message {
	return connector.Message{
		All: c.Organization.IsZero(), Organization: c.Organization, Category: c.Category, Connector: c.ID,
	}
}

// fieldNames collects what an audit entry names.
type fieldNames []string

func (f *fieldNames) add(name string, changed bool) {
	if changed {
		*f = append(*f, name)
	}
}

// Fields names what differs between two versions of a connector, never a value;
// everything that is set when old is nil.
func Fields(old, c *connector.Connector) []string {
	if old == nil {
		old = &connector.Connector{}
	}
	f := fieldNames{}
	f.add("external_id", old.ExternalID != c.ExternalID)
	f.add("name", old.Name != c.Name)
	f.add("category", old.Category != c.Category)
	f.add("kind", old.Kind != c.Kind)
	f.add("organization_id", old.Organization != c.Organization)
	f.add("schema_version", old.SchemaVersion != c.SchemaVersion)
	f.add("state", old.State != c.State)
	f.add("active", old.Active != c.Active)
	f.add("is_default", old.Default != c.Default)
	f.add("block_pinned", old.BlockPinned != c.BlockPinned)
	f.add("noupdate", old.NoUpdate != c.NoUpdate)
	f.add("deleted", old.DeletedAt.IsZero() != c.DeletedAt.IsZero())
	for _, name := range union(old.Params, c.Params) {
		f.add("params."+name, !reflect.DeepEqual(old.Params[name].Value, c.Params[name].Value))
	}
	for _, name := range union(old.Secrets, c.Secrets) {
		f.add("secrets."+name, old.Secrets[name].Version != c.Secrets[name].Version)
	}
	return f
}

func union[V any](a, b map[string]V) []string {
	names := slices.Collect(maps.Keys(a))
	names = slices.AppendSeq(names, maps.Keys(b))
	slices.Sort(names)
	return slices.Compact(names)
}
