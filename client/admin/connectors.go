package admin

import (
	"context"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Connector is a connector as the API shows it, never with a secret.
type Connector struct {
	ID             string                  `json:"id"`
	ExternalID     *string                 `json:"external_id"`
	Name           string                  `json:"name"`
	Category       string                  `json:"category"`
	Kind           string                  `json:"kind"`
	OrganizationID *string                 `json:"organization_id"` // nil: the whole tenant
	State          string                  `json:"state"`           // draft, untested, connected, error, needs_reauthorization
	Active         bool                    `json:"active"`
	IsDefault      bool                    `json:"is_default"`
	BlockPinned    bool                    `json:"block_pinned"`
	Params         map[string]any          `json:"params"`
	Secrets        map[string]SecretStatus `json:"secrets"`
	LastTest       *TestResult             `json:"last_test"` // nil until it was tested
	Version        int64                   `json:"version"`
	CreatedAt      time.Time               `json:"created_at"`
	UpdatedAt      time.Time               `json:"updated_at"`
	DeletedAt      *time.Time              `json:"deleted_at"`
}

// ETag is the connector's version, for [IfMatch].
func (c *Connector) ETag() string { return `"` + strconv.FormatInt(c.Version, 10) + `"` }

// SecretStatus is what is told about a secret.
type SecretStatus struct {
	Configured bool       `json:"configured"`
	Version    int64      `json:"version"`
	UpdatedAt  *time.Time `json:"updated_at"`
}

// TestResult is the outcome of a connection test that ran.
type TestResult struct {
	OK       bool       `json:"ok"`
	Message  string     `json:"message"`
	Level    int        `json:"level"`
	TestedAt time.Time  `json:"tested_at"`
	Steps    []TestStep `json:"steps"`
	Version  int64      `json:"version"`
	Withheld []string   `json:"withheld"` // of a draft: stored secrets that did not stand in
}

// TestStep is one step of a test.
type TestStep struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warn, fail, skip
	Code   string `json:"code"`
	MS     int64  `json:"ms"`
	Hint   string `json:"hint"`
	Fix    *Fix   `json:"fix"`
}

// Fix is a change of params that would mend a finding.
type Fix struct {
	Label  string         `json:"label"`
	Params map[string]any `json:"params"`
}

// Draft is a connector to be created, or tested.
type Draft struct {
	ID             string            `json:"id,omitempty"` // of TestDraft: the stored connector that the draft changes
	Name           string            `json:"name,omitempty"`
	Category       string            `json:"category,omitempty"`
	Kind           string            `json:"kind,omitempty"`
	OrganizationID *string           `json:"organization_id,omitempty"` // nil: the whole tenant
	Params         map[string]any    `json:"params,omitempty"`
	Secrets        map[string]string `json:"secrets,omitempty"`
	IsDefault      bool              `json:"is_default,omitempty"`
	Active         *bool             `json:"active,omitempty"`
	BlockPinned    bool              `json:"block_pinned,omitempty"`
	Force          bool              `json:"force,omitempty"`
	Reason         string            `json:"reason,omitempty"`
	Level          int               `json:"level,omitempty"`     // of TestDraft
	Recipient      string            `json:"recipient,omitempty"` // of TestDraft
}

// Edit changes a connector. What is nil is kept; a nil param or secret is cleared.
type Edit struct {
	Name           *string            `json:"name,omitempty"`
	Params         map[string]any     `json:"params,omitempty"`
	Secrets        map[string]*string `json:"secrets,omitempty"`
	IsDefault      *bool              `json:"is_default,omitempty"`
	Active         *bool              `json:"active,omitempty"`
	BlockPinned    *bool              `json:"block_pinned,omitempty"`
	Replacement    string             `json:"replacement,omitempty"`
	AllowNoDefault bool               `json:"allow_no_default,omitempty"`
	Force          bool               `json:"force,omitempty"`
	Reason         string             `json:"reason,omitempty"`
}

// Filter narrows a list of connectors. Zero fields do not narrow.
type Filter struct {
	Category, Kind, OrganizationID, State, Query string
	TenantWide, Deleted                          bool
	IsDefault                                    *bool
	Limit                                        int // of a page; at most 200
}

// ConnectorList is a page of connectors.
type ConnectorList struct {
	Items      []Connector `json:"items"`
	NextCursor *string     `json:"next_cursor"`
}

const connectors = "/api/connectors"

func one(id string, more ...string) string {
	return strings.Join(append([]string{connectors, url.PathEscape(id)}, more...), "/")
}

// ListConnectors returns one page; cursor "" is the first.
func (c *Client) ListConnectors(ctx context.Context, f Filter, cursor string) (ConnectorList, error) {
	q := url.Values{}
	for name, v := range map[string]string{"category": f.Category, "kind": f.Kind, "organization_id": f.OrganizationID, "state": f.State, "q": f.Query, "cursor": cursor} {
		set(q, name, v)
	}
	flag(q, "tenant_wide", f.TenantWide)
	flag(q, "deleted", f.Deleted)
	if f.IsDefault != nil {
		q.Set("is_default", strconv.FormatBool(*f.IsDefault))
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	list, _, err := ask[ConnectorList](ctx, c, http.MethodGet, connectors, q, nil, nil)
	return list, err
}

// Connectors iterates over all pages. It ends with the first error.
func (c *Client) Connectors(ctx context.Context, f Filter) iter.Seq2[Connector, error] {
	return func(yield func(Connector, error) bool) {
		for cursor := ""; ; {
			page, err := c.ListConnectors(ctx, f, cursor)
			if err != nil {
				yield(Connector{}, err)
				return
			}
			for _, item := range page.Items {
				if !yield(item, nil) {
					return
				}
			}
			if page.NextCursor == nil {
				return
			}
			cursor = *page.NextCursor
		}
	}
}

// CreateConnector makes a connector; see [Once] for a repetition that makes no second.
func (c *Client) CreateConnector(ctx context.Context, d Draft, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPost, connectors, nil, d, o)
}

// GetConnector reads a connector.
func (c *Client) GetConnector(ctx context.Context, id string) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodGet, one(id), nil, nil, nil)
}

// ReplaceConnector sets name and params to what e has, omitted params to their
// defaults; omitted secrets are kept. It needs [IfMatch].
func (c *Client) ReplaceConnector(ctx context.Context, id string, e Edit, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPut, one(id), nil, e, o)
}

// PatchConnector changes what e has. It needs [IfMatch].
func (c *Client) PatchConnector(ctx context.Context, id string, e Edit, o ...Option) (Connector, Meta, error) {
	b, err := encoded("application/merge-patch+json", e)
	if err != nil {
		return Connector{}, Meta{}, err
	}
	return ask[Connector](ctx, c, http.MethodPatch, one(id), nil, b, o)
}

// Goodbye says how a connector goes, or stops to be used.
type Goodbye struct {
	Replacement    string `json:"replacement,omitempty"` // becomes the default instead
	AllowNoDefault bool   `json:"allow_no_default,omitempty"`
	BlockPinned    *bool  `json:"block_pinned,omitempty"` // of a deactivation
	Revoke         bool   `json:"revoke,omitempty"`       // its OAuth2 grant, at the issuer
	Force          bool   `json:"force,omitempty"`
	Reason         string `json:"reason,omitempty"`
}

// DeleteConnector deletes softly. It needs [IfMatch].
func (c *Client) DeleteConnector(ctx context.Context, id string, g Goodbye, o ...Option) (Meta, error) {
	q := url.Values{}
	set(q, "replacement", g.Replacement)
	set(q, "reason", g.Reason)
	flag(q, "allow_no_default", g.AllowNoDefault)
	flag(q, "revoke", g.Revoke)
	flag(q, "force", g.Force)
	_, m, err := ask[none](ctx, c, http.MethodDelete, one(id), q, nil, o)
	return m, err
}

// TestConnector tests a connector as it is stored; level 0 is 1. A test that ran and
// failed is no error.
func (c *Client) TestConnector(ctx context.Context, id string, level int, recipient string) (TestResult, error) {
	r, _, err := ask[TestResult](ctx, c, http.MethodPost, one(id, "test"), nil, Draft{Level: level, Recipient: recipient}, nil)
	return r, err
}

// TestDraft tests what is not saved.
func (c *Client) TestDraft(ctx context.Context, d Draft) (TestResult, error) {
	r, _, err := ask[TestResult](ctx, c, http.MethodPost, connectors+"/test", nil, d, nil)
	return r, err
}

// ActivateConnector makes a connector active. It needs a passed test, or a reason why
// not.
func (c *Client) ActivateConnector(ctx context.Context, id, forceReason string, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPost, one(id, "activate"), nil, Goodbye{Force: forceReason != "", Reason: forceReason}, o)
}

// DeactivateConnector makes a connector inactive.
func (c *Client) DeactivateConnector(ctx context.Context, id string, g Goodbye, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPost, one(id, "deactivate"), nil, g, o)
}

// SetDefault makes a connector the one that answers for its organization and category.
func (c *Client) SetDefault(ctx context.Context, id string, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPost, one(id, "default"), nil, nil, o)
}

// ClearDefault makes a connector none, in favour of replacement or of nobody ("").
func (c *Client) ClearDefault(ctx context.Context, id, replacement string, o ...Option) (Connector, Meta, error) {
	q := url.Values{}
	set(q, "replacement", replacement)
	return ask[Connector](ctx, c, http.MethodDelete, one(id, "default"), q, nil, o)
}

// ImportConfig takes over a vendor's own file, by its JSON content. It needs [IfMatch].
func (c *Client) ImportConfig(ctx context.Context, id string, content map[string]any, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPost, one(id, "import-config"), nil, map[string]any{"json_data": content}, o)
}

// RestoreConnector brings a deleted connector back, inactive.
func (c *Client) RestoreConnector(ctx context.Context, id string, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPost, one(id, "restore"), nil, nil, o)
}

// CloneConnector copies a connector, secrets included; organizationID nil is the whole
// tenant.
func (c *Client) CloneConnector(ctx context.Context, id, name string, organizationID *string, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPost, one(id, "clone"), nil, Draft{Name: name, OrganizationID: organizationID}, o)
}

// Config is an assembled config.
type Config struct {
	ID      string         `json:"id"`
	Kind    string         `json:"kind"`
	Params  map[string]any `json:"params"`
	Secrets map[string]any `json:"secrets"` // revealed ones are texts, others objects
}

// GetConfig reads the assembled config; reveal shows secrets, and is audited.
func (c *Client) GetConfig(ctx context.Context, id string, reveal bool) (Config, error) {
	q := url.Values{}
	flag(q, "reveal", reveal)
	cfg, _, err := ask[Config](ctx, c, http.MethodGet, one(id, "config"), q, nil, nil)
	return cfg, err
}

// Revision is one past state of a connector.
type Revision struct {
	Version   int64     `json:"version"`
	Revision  int64     `json:"revision"`
	Actor     string    `json:"actor"`
	At        time.Time `json:"at"`
	Connector Connector `json:"connector"`
	Changes   []Change  `json:"changes"`
}

// Change is one difference to the version before; nil is not set.
type Change struct {
	Pointer string `json:"pointer"`
	From    any    `json:"from"`
	To      any    `json:"to"`
}

// RevisionList is a page of revisions.
type RevisionList struct {
	Items      []Revision `json:"items"`
	NextCursor *string    `json:"next_cursor"`
}

// ListRevisions returns one page of a connector's history, newest first.
func (c *Client) ListRevisions(ctx context.Context, id, cursor string) (RevisionList, error) {
	q := url.Values{}
	set(q, "cursor", cursor)
	list, _, err := ask[RevisionList](ctx, c, http.MethodGet, one(id, "revisions"), q, nil, nil)
	return list, err
}

// RestoreRevision rolls name, params and secrets back to version n. It needs [IfMatch].
func (c *Client) RestoreRevision(ctx context.Context, id string, n int64, o ...Option) (Connector, Meta, error) {
	return ask[Connector](ctx, c, http.MethodPost, one(id, "revisions", strconv.FormatInt(n, 10), "restore"), nil, nil, o)
}

// Resolution says which connector answers.
type Resolution struct {
	OrganizationID *string `json:"organization_id"`
	Category       string  `json:"category"`
	ConnectorID    *string `json:"connector_id"` // nil: none
	Problem        *struct {
		Code   string `json:"code"`
		Detail string `json:"detail"`
	} `json:"problem"`
	Candidates []Candidate `json:"candidates"` // where they were asked for
}

// Candidate is a connector that could answer.
type Candidate struct {
	ID             string  `json:"id"`
	Name           string  `json:"name"`
	Kind           string  `json:"kind"`
	OrganizationID *string `json:"organization_id"`
	State          string  `json:"state"`
	Active         bool    `json:"active"`
	IsDefault      bool    `json:"is_default"`
	Reason         string  `json:"reason"` // answers, inactive, not_default, overridden, needs_reauthorization, blocked
}

// ResolveDefault says which connector answers for an organization ("": none is active), and
// with explain why the others don't.
func (c *Client) ResolveDefault(ctx context.Context, organizationID, category string, explain bool) (Resolution, Meta, error) {
	q := url.Values{"category": {category}}
	set(q, "organization_id", organizationID)
	flag(q, "explain", explain)
	return ask[Resolution](ctx, c, http.MethodGet, connectors+"/resolve", q, nil, nil)
}

// Consent is an OAuth2 consent that begins.
type Consent struct {
	AuthorizationURL string    `json:"authorization_url"`
	RedirectURI      string    `json:"redirect_uri"`
	ExpiresAt        time.Time `json:"expires_at"`
}

// StartConsent begins a consent.
func (c *Client) StartConsent(ctx context.Context, id string) (Consent, error) {
	s, _, err := ask[Consent](ctx, c, http.MethodPost, one(id, "oauth", "start"), nil, nil, nil)
	return s, err
}

// Connected is the outcome of a completed consent.
type Connected struct {
	Connector Connector   `json:"connector"`
	Test      *TestResult `json:"test"` // nil where it could not run
}

// CompleteConsent completes a consent with the handle that it came back with.
func (c *Client) CompleteConsent(ctx context.Context, id, handle string) (Connected, Meta, error) {
	return ask[Connected](ctx, c, http.MethodPost, one(id, "oauth", "complete"), nil, map[string]string{"handle": handle}, nil)
}
