package providers

import "regexp"

// Type is the type of a param. It decides the canonical Go type of the value.
type Type string

// The types, with the canonical Go type of each.
const (
	String     Type = "string"      // string on one line
	Text       Type = "text"        // string with line breaks
	Int        Type = "int"         // int64
	Number     Type = "number"      // float64
	Bool       Type = "bool"        // bool
	Enum       Type = "enum"        // string, one of Options
	MultiEnum  Type = "multi_enum"  // []any of string, each one of Options
	URL        Type = "url"         // string, absolute, without credentials
	Host       Type = "host"        // string, a name or an IP address, without a port
	Port       Type = "port"        // int64, 1 to 65535
	EmailAddr  Type = "email"       // string
	Duration   Type = "duration"    // string in Go's form ("1m30s")
	Bytes      Type = "bytes"       // int64; text like "32MiB" is understood
	JSON       Type = "json"        // any JSON value
	MapOf      Type = "map"         // map[string]any
	List       Type = "list"        // []any
	File       Type = "file"        // string, the content
	OAuthToken Type = "oauth_token" // string
	Notice     Type = "notice"      // no value: a text in the form
)

// Source says where a param's value comes from.
type Source string

// The sources; "" is SourceUser.
const (
	SourceUser     Source = "user"
	SourceOAuth    Source = "oauth"
	SourceDerived  Source = "derived"
	SourceOperator Source = "operator"
)

// Param describes one param or secret of a kind.
type Param struct {
	Name    string   `json:"name"`              // snake_case, never renamed without an Upgrade
	Aliases []string `json:"aliases,omitempty"` // other names in data files
	Type    Type     `json:"type"`

	Required     bool       `json:"required"`
	RequiredWhen *Condition `json:"required_when,omitempty"`
	// VisibleWhen is the condition under which the param has a meaning. Where
	// it doesn't hold the param is neither required nor defaulted, and a value
	// is checked but left out of the Config.
	VisibleWhen *Condition `json:"visible_when,omitempty"`

	Default     any        `json:"default,omitempty"` // canonical; nil is none
	Example     any        `json:"example,omitempty"`
	Placeholder string     `json:"placeholder,omitempty"`
	Validate    Validation `json:"validate,omitzero"`
	Options     []Option   `json:"options,omitempty"` // of enum and multi_enum

	Group    string `json:"group,omitempty"`
	Order    int    `json:"order,omitempty"`
	Advanced bool   `json:"advanced,omitempty"`
	Label    string `json:"label,omitempty"`
	Help     string `json:"help,omitempty"`
	DocURL   string `json:"doc_url,omitempty"`
	Source   Source `json:"source,omitempty"`

	BindsSecrets      []string `json:"binds_secrets,omitempty"`      // changing it voids these secrets
	AffectsConnection bool     `json:"affects_connection,omitempty"` // a change asks for a new test
	Immutable         bool     `json:"immutable,omitempty"`          // set once
	Deprecated        string   `json:"deprecated,omitempty"`         // what to use instead; "" is not deprecated

	re *regexp.Regexp // Validate.Pattern, set when the schema is compiled
}

// Option is one allowed value of an enum.
type Option struct {
	Value      string `json:"value"`
	Label      string `json:"label,omitempty"`
	Warning    string `json:"warning,omitempty"` // shown when chosen
	Deprecated bool   `json:"deprecated,omitempty"`
}

// Validation narrows the values of a type. Lengths count characters of text,
// items of a list, keys of a map; 0 is no limit beyond the type's own.
type Validation struct {
	Min            *float64 `json:"min,omitempty"`
	Max            *float64 `json:"max,omitempty"`
	MinLength      int      `json:"min_length,omitempty"`
	MaxLength      int      `json:"max_length,omitempty"`
	Pattern        string   `json:"pattern,omitempty"` // RE2, must match somewhere: anchor it
	PatternMessage string   `json:"pattern_message,omitempty"`
	Format         string   `json:"format,omitempty"`  // see Formats
	Schemes        []string `json:"schemes,omitempty"` // of url; empty is http and https
}

// Limit makes a Min or Max.
func Limit(n float64) *float64 { return &n }

// Types lists every type.
func Types() []Type {
	return []Type{String, Text, Int, Number, Bool, Enum, MultiEnum, URL, Host, Port, EmailAddr,
		Duration, Bytes, JSON, MapOf, List, File, OAuthToken, Notice}
}

// textual tells whether the canonical value is a string.
func (t Type) textual() bool {
	switch t {
	case String, Text, Enum, URL, Host, EmailAddr, Duration, File, OAuthToken:
		return true
	default:
		return false
	}
}

// multiline tells whether line breaks and tabs are part of such a text.
func (t Type) multiline() bool { return t == Text || t == File || t == JSON }

// secretType tells whether a secret may have this type: a secret is text.
func (t Type) secretType() bool {
	switch t {
	case String, Text, JSON, File, OAuthToken:
		return true
	default:
		return false
	}
}

// maxLength is the limit in characters that holds where a schema states none:
// a config is a row and a cache entry, not a place for documents.
func (t Type) maxLength() int {
	if t.multiline() {
		return 64 << 10
	}
	return 4096
}

func (t Type) ordered() bool {
	switch t {
	case Int, Number, Port, Bytes, Duration:
		return true
	default:
		return false
	}
}
