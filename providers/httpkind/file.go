package httpkind

import "github.com/patchbay-dev/patchbay/providers"

// file is a declared kind as it is written. The keys are those of the json tags;
// those of params, groups, rules and so on are providers' own.
type file struct {
	Kind          providers.Kind     `json:"kind"`
	Aliases       []providers.Kind   `json:"aliases"`
	Category      providers.Category `json:"category"`
	CategoryLabel string             `json:"category_label"`
	Label         string             `json:"label"`
	Icon          string             `json:"icon"`
	Description   string             `json:"description"`
	Docs          string             `json:"docs"`
	Status        providers.Status   `json:"status"`
	Version       int                `json:"schema_version"`
	Upgrades      []upgrade          `json:"upgrades"`
	Groups        []providers.Group  `json:"groups"`
	Params        []providers.Param  `json:"params"`
	Secrets       []providers.Param  `json:"secrets"`
	Rules         []providers.Rule   `json:"rules"`
	Egress        providers.Egress   `json:"egress"` // what the URLs of the file don't say themselves
	Auth          []auth             `json:"auth"`
	Test          []level            `json:"test"`
	Backend       backend            `json:"backend"`
	Import        importing          `json:"import"`
}

// auth is one way to authenticate: an auth mode of the schema, and how requests
// carry it.
type auth struct {
	Type  string               `json:"type"` // none, bearer, basic, header, query, oauth2
	Mode  string               `json:"mode"` // the mode's name; "" is none, static or oauth2 by type
	Label string               `json:"label"`
	When  *providers.Condition `json:"when"`

	Token    template `json:"token"`    // bearer
	Username template `json:"username"` // basic
	Password template `json:"password"`
	Header   template `json:"header"` // header: its name
	Query    template `json:"query"`  // query: the parameter's name
	Value    template `json:"value"`  // of header and query

	Flow         providers.OAuthFlow `json:"flow"` // authorization_code or client_credentials
	ClientID     template            `json:"client_id"`
	ClientSecret string              `json:"client_secret"` // the name of the secret
	AuthURL      template            `json:"auth_url"`
	TokenURL     template            `json:"token_url"`
	RevokeURL    template            `json:"revoke_url"`
	AuthStyle    string              `json:"auth_style"` // params, header or ""
	Scopes       []string            `json:"scopes"`
	AuthParams   map[string]template `json:"auth_params"`
	TokenParams  map[string]template `json:"token_params"`
	Rotates      *bool               `json:"rotates"` // true where it is not said

	authTarget, tokenTarget, revokeTarget *target
}

// level is one level of the connection test.
type level struct {
	Level       int    `json:"level"`
	Label       string `json:"label"`
	SideEffects bool   `json:"side_effects"`
	Steps       []step `json:"steps"`
}

// step does one of reach, scopes and request.
type step struct {
	Name string               `json:"name"`
	When *providers.Condition `json:"when"` // else the step is skipped

	Reach   template `json:"reach"`  // a URL: connect, and agree on TLS; nothing is asked
	Scopes  []string `json:"scopes"` // that the access token must have been granted
	Request *request `json:"request"`

	Findings []finding `json:"findings"` // the first that applies is the step's outcome
	Expect   expect    `json:"expect"`   // where none does
	Remark   string    `json:"remark"`   // said where all is well

	target *target
}

// request is an HTTP request.
type request struct {
	Method      template            `json:"method"` // GET where it is not said; or an enum of methods
	URL         template            `json:"url"`
	Endpoint    string              `json:"endpoint"` // the purpose of the operator's override; "api" where it is not said
	Anonymous   bool                `json:"anonymous"`
	Headers     map[string]template `json:"headers"`
	HeadersFrom string              `json:"headers_from"` // a param of type map
	Query       map[string]template `json:"query"`
	JSON        any                 `json:"json"`
	Form        map[string]template `json:"form"`
	Sign        []sign              `json:"sign"` // the first whose condition holds

	body any // JSON, compiled
}

// sign adds a signature of the body.
type sign struct {
	When   *providers.Condition `json:"when"`
	Scheme string               `json:"scheme"` // standard_webhooks or hmac_sha256
	Secret string               `json:"secret"` // the name of the secret; unset, nothing is signed
	Header string               `json:"header"` // of hmac_sha256: where it goes,
	Prefix string               `json:"prefix"` // what stands before it ("sha256="), and
	Base64 bool                 `json:"base64"` // whether it is base64 instead of hexadecimal
}

// finding is what an answer means.
type finding struct {
	When   match                `json:"when"`
	Unless match                `json:"unless"`
	Result providers.StepStatus `json:"result"` // fail where it is not said; warn or ok
	Code   providers.TestCode   `json:"code"`
	Hint   template             `json:"hint"` // "" takes the code's own; params may stand in it, secrets not
	Fix    *providers.Fix       `json:"fix"`

	path string // in the file
}

// expect is how the answer looks where all is well.
type expect struct {
	Status statuses     `json:"status"` // 2xx where it is not said
	JSON   []jsonTest   `json:"json"`
	Header []headerTest `json:"header"`
}

// match is a condition on an answer: all that is given must hold.
type match struct {
	Status statuses     `json:"status"`
	JSON   []jsonTest   `json:"json"`
	Header []headerTest `json:"header"`
}

// jsonTest looks at one place of a JSON body.
type jsonTest struct {
	Path     string `json:"path"` // "error.code", "items[0].id", "" for the whole
	Eq       any    `json:"eq"`   // text with placeholders is compared without regard to case
	In       []any  `json:"in"`
	Set      *bool  `json:"set"`      // is there and not null
	Type     string `json:"type"`     // string, number, bool, object, array
	Contains any    `json:"contains"` // a list that has this item

	segments []string
	eq       *template
}

// headerTest looks at one header of the answer.
type headerTest struct {
	Name     string `json:"name"`
	Eq       string `json:"eq"`
	Set      *bool  `json:"set"`
	Contains string `json:"contains"` // one of a list by comma or space
}

// backend is what the answer to apps holds beside the config as set.
type backend struct {
	Derived  map[string]template `json:"derived"`  // further params
	Withhold []string            `json:"withhold"` // config that the answer leaves out

	targets map[string]*target // of derived URLs
}

// importing is what ImportConfig understands beside flat and nested names.
type importing struct {
	Formats []providers.ImportFormat `json:"formats"`
	From    map[string][]string      `json:"from"`   // param -> paths in a vendor's file
	Ignore  []string                 `json:"ignore"` // paths of what the kind has no use for
}

// upgrade brings a stored config one schema version further.
type upgrade struct {
	From   int               `json:"from"`
	Rename map[string]string `json:"rename"` // old name -> new, of params and secrets
	Remove []string          `json:"remove"` // params
}
