package providers

import (
	"errors"
	"fmt"
)

// Condition is a small tree over the values of one config. Exactly one form is
// used: All, Any, Not, or Field with one of Eq, In and Set. The zero Condition
// is invalid; a nil *Condition always holds. The page evaluates the same tree.
//
// A param that is not visible counts as not set. Secrets can be asked for Set
// only, so that no condition tells anything about a secret's content.
type Condition struct {
	All   []Condition `json:"all,omitempty"`
	Any   []Condition `json:"any,omitempty"`
	Not   *Condition  `json:"not,omitempty"`
	Field string      `json:"field,omitempty"`
	Eq    any         `json:"eq,omitempty"`
	In    []any       `json:"in,omitempty"`
	Set   *bool       `json:"set,omitempty"`
}

// Equals is the condition that a param has this value.
func Equals(field string, value any) Condition { return Condition{Field: field, Eq: value} }

// OneOf is the condition that a param has one of these values.
func OneOf(field string, values ...any) Condition { return Condition{Field: field, In: values} }

// IsSet is the condition that a param or secret has a value, a default included.
func IsSet(field string) Condition {
	t := true
	return Condition{Field: field, Set: &t}
}

// Holds evaluates the tree. value returns a param's canonical value and whether
// it is set; for a secret the value is ignored.
func (c *Condition) Holds(value func(name string) (any, bool)) bool {
	switch {
	case c == nil:
		return true
	case len(c.All) > 0:
		for i := range c.All {
			if !c.All[i].Holds(value) {
				return false
			}
		}
		return true
	case len(c.Any) > 0:
		for i := range c.Any {
			if c.Any[i].Holds(value) {
				return true
			}
		}
		return false
	case c.Not != nil:
		return !c.Not.Holds(value)
	}
	v, set := value(c.Field)
	switch {
	case c.Set != nil:
		return set == *c.Set
	case c.In != nil:
		for _, want := range c.In {
			if set && scalarEqual(v, want) {
				return true
			}
		}
		return false
	default:
		return set && scalarEqual(v, c.Eq)
	}
}

// scalarEqual compares scalars, numbers by value: schemas write 465, values are
// int64. Maps and lists never equal anything (and would panic under ==).
func scalarEqual(a, b any) bool {
	if x, ok := number(a); ok {
		y, ok := number(b)
		return ok && x == y
	}
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	default:
		return false
	}
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int:
		return float64(n), true
	case int64:
		return float64(n), true
	case float64:
		return n, true
	default:
		return 0, false
	}
}

// fields calls f for every field that the tree names.
func (c *Condition) fields(f func(name string)) {
	if c == nil {
		return
	}
	for i := range c.All {
		c.All[i].fields(f)
	}
	for i := range c.Any {
		c.Any[i].fields(f)
	}
	c.Not.fields(f)
	if c.Field != "" {
		f(c.Field)
	}
}

// check finds malformed nodes and fields that ix doesn't know.
func (c *Condition) check(ix *index) error {
	if c == nil {
		return nil
	}
	forms := 0
	for _, used := range []bool{len(c.All) > 0, len(c.Any) > 0, c.Not != nil, c.Field != ""} {
		if used {
			forms++
		}
	}
	if forms != 1 {
		return errors.New("a condition has exactly one of all, any, not and field")
	}
	for _, list := range [][]Condition{c.All, c.Any} {
		for i := range list {
			if err := list[i].check(ix); err != nil {
				return err
			}
		}
	}
	if c.Not != nil {
		return c.Not.check(ix)
	}
	tests := 0
	for _, used := range []bool{c.Eq != nil, c.In != nil, c.Set != nil} {
		if used {
			tests++
		}
	}
	if c.Field == "" {
		if tests != 0 {
			return errors.New("eq, in and set need a field")
		}
		return nil
	}
	if tests != 1 {
		return fmt.Errorf("the condition on %q has exactly one of eq, in and set", c.Field)
	}
	p, secret := ix.params[c.Field], ix.secrets[c.Field]
	switch {
	case p == nil && secret == nil:
		return fmt.Errorf("a condition names %q, which is no param", c.Field)
	case secret != nil && c.Set == nil:
		return fmt.Errorf("the condition on secret %q may ask for set only", c.Field)
	}
	values := c.In
	if c.Eq != nil {
		values = []any{c.Eq}
	}
	for _, v := range values {
		canonical, problem := p.canonical(v, false)
		if problem != nil || canonical == nil {
			return fmt.Errorf("the condition on %q compares with a value it can't have", c.Field)
		}
		// "60s" would never equal the "1m0s" that Decode makes of it, and a list
		// equals nothing.
		if !scalarEqual(canonical, v) {
			return fmt.Errorf("the condition on %q compares with a value in another form than Decode's: %v", c.Field, canonical)
		}
	}
	return nil
}
