package providers

import "sync"

// Schema describes a kind: who it is, what it can do, and what it wants to
// know. It is data: the same value drives strict decoding, the JSON Schema and
// the Settings UI. A Schema is built once and never modified afterwards; it is
// safe for concurrent use and must not be copied.
type Schema struct {
	Kind     Kind     `json:"kind"`
	Aliases  []Kind   `json:"aliases,omitempty"` // other names in data files
	Category Category `json:"category"`
	// CategoryLabel declares Category when it is none of the built-in ones.
	CategoryLabel string         `json:"category_label,omitempty"`
	Label         string         `json:"label"`
	Icon          string         `json:"icon,omitempty"` // a name from the UI's set
	Description   string         `json:"description,omitempty"`
	Docs          string         `json:"docs,omitempty"`   // URL
	Status        Status         `json:"status,omitempty"` // "" is stable
	AuthModes     []AuthMode     `json:"auth_modes,omitempty"`
	Scopes        []string       `json:"scopes,omitempty"` // OAuth2 scopes that a consent asks for
	Egress        Egress         `json:"egress"`
	Tests         []TestLevel    `json:"test,omitempty"`
	Imports       []ImportFormat `json:"import,omitempty"`
	Groups        []Group        `json:"groups,omitempty"`

	// Params and Secrets are apart on purpose: the list that a param is in
	// decides its Go type, its column and its store. A flag would drift. Their
	// names share one namespace. Of a secret no Default and no Options exist.
	Params  []Param `json:"-"`
	Secrets []Param `json:"-"`

	Rules []Rule `json:"rules,omitempty"`

	// Version is the version of this schema, from 1. Upgrades has one step for
	// each version below it.
	Version  int       `json:"schema_version"`
	Upgrades []Upgrade `json:"-"`

	once     sync.Once
	compiled *index
	err      error
}

// Status says how far a kind can be relied upon.
type Status string

// The statuses of a kind.
const (
	Stable       Status = "stable"
	Beta         Status = "beta"
	Experimental Status = "experimental"
	Deprecated   Status = "deprecated"
)

// AuthMode is one way in which a kind authenticates. When is the condition on
// the params under which it is the one in use; nil where there is only one.
type AuthMode struct {
	Name  string     `json:"name"` // "static", "oauth2", "service_account", "none"
	Label string     `json:"label,omitempty"`
	Grant bool       `json:"grant,omitempty"` // needs an OAuth2 consent
	When  *Condition `json:"when,omitempty"`
}

// Egress says where a kind connects to, for the operator's network policy. The
// names in FromParams are params of type host or url that name the target.
type Egress struct {
	Hosts      []string `json:"hosts,omitempty"`
	FromParams []string `json:"from_params,omitempty"`
	Ports      []int    `json:"ports,omitempty"`
	TLS        string   `json:"tls,omitempty"` // always, optional, starttls
}

// TestLevel describes one level of the connection test: 1 reaches and
// authenticates, 2 checks the permission needed, 3 writes or sends.
type TestLevel struct {
	Level       int    `json:"level"`
	Label       string `json:"label"`
	SideEffects bool   `json:"side_effects,omitempty"`
}

// ImportFormat is a file that ImportConfig understands.
type ImportFormat struct {
	Name  string `json:"name"` // "google_credentials_json"
	Label string `json:"label"`
	Hint  string `json:"hint,omitempty"`
}

// Group is a section of the form; params name it.
type Group struct {
	Name      string `json:"name"`
	Label     string `json:"label"`
	Help      string `json:"help,omitempty"`
	Collapsed bool   `json:"collapsed,omitempty"`
}

// Field is a param together with the list it comes from, for those who lay out
// a form or print a schema.
type Field struct {
	*Param
	Secret bool `json:"secret"`
}

// Fields returns params and secrets in layout order: by Order, then as
// declared, params first. The result is shared; callers don't modify it.
func (s *Schema) Fields() []Field { return s.index().fields }

// Param returns the param, not secret, of this canonical name; nil when there is none.
func (s *Schema) Param(name string) *Param { return s.index().params[name] }

// Secret returns the secret of this canonical name; nil when there is none.
func (s *Schema) Secret(name string) *Param { return s.index().secrets[name] }

// IsSecret tells whether the schema has a secret of this (canonical) name.
func (s *Schema) IsSecret(name string) bool { return s.Secret(name) != nil }

// Canonical resolves an alias. A name that is no alias is returned as it is,
// known or not.
func (s *Schema) Canonical(name string) string {
	if c, ok := s.index().aliases[name]; ok {
		return c
	}
	return name
}

// BoundSecrets returns the names of the secrets that are void once the named
// param changes: they were meant for the old target.
func (s *Schema) BoundSecrets(param string) []string {
	if p := s.Param(param); p != nil {
		return p.BindsSecrets
	}
	return nil
}
