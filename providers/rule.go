package providers

import (
	"fmt"
	"strings"
)

// RuleType is the type of a cross-field rule.
type RuleType string

// The rules. A field is "given" when it has a value, a default included, or is
// a secret that is stored already. Invisible fields are never given.
const (
	ExactlyOneOf RuleType = "exactly_one_of" // of Fields exactly one is given
	AtLeastOneOf RuleType = "at_least_one_of"
	Requires     RuleType = "requires"  // when Field is given, all of Fields are
	Conflicts    RuleType = "conflicts" // when Field is given, none of Fields is
)

// Rule relates several fields of a config.
type Rule struct {
	Type    RuleType `json:"type"`
	Field   string   `json:"field,omitempty"` // of requires and conflicts
	Fields  []string `json:"fields"`
	Message string   `json:"message,omitempty"` // "": a generated one
}

// broken returns the field to blame and the message, or "" when the rule holds.
func (r Rule) broken(given func(string) bool) (field, code, message string) {
	var have []string
	for _, f := range r.Fields {
		if given(f) {
			have = append(have, f)
		}
	}
	names := strings.Join(r.Fields, ", ")
	switch r.Type {
	case ExactlyOneOf:
		if len(have) > 1 {
			field, code, message = have[1], "conflict", "give only one of "+names
		} else if len(have) == 0 {
			field, code, message = r.Fields[0], codeRequired, "give one of "+names
		}
	case AtLeastOneOf:
		if len(have) == 0 {
			field, code, message = r.Fields[0], codeRequired, "give at least one of "+names
		}
	case Requires:
		if given(r.Field) && len(have) < len(r.Fields) {
			for _, f := range r.Fields {
				if !given(f) {
					field = f
					break
				}
			}
			code, message = codeRequired, "is needed together with "+r.Field
		}
	case Conflicts:
		if given(r.Field) && len(have) > 0 {
			field, code, message = have[0], "conflict", "can't be given together with "+r.Field
		}
	}
	if field != "" && r.Message != "" {
		message = r.Message
	}
	return field, code, message
}

func (r Rule) check(ix *index) error {
	names := r.Fields
	switch r.Type {
	case ExactlyOneOf, AtLeastOneOf:
		if r.Field != "" || len(r.Fields) < 2 {
			return fmt.Errorf("rule %s wants two or more fields and no field", r.Type)
		}
	case Requires, Conflicts:
		if r.Field == "" || len(r.Fields) == 0 {
			return fmt.Errorf("rule %s wants field and fields", r.Type)
		}
		names = append([]string{r.Field}, r.Fields...)
	default:
		return fmt.Errorf("unknown rule %q", r.Type)
	}
	for _, n := range names {
		if !ix.has(n) {
			return fmt.Errorf("rule %s names %q, which is no param", r.Type, n)
		}
	}
	return nil
}
