package gdrive_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/gdrive"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
	"github.com/patchbay-dev/patchbay/providers/providertest"
)

const (
	folder = "1dyUEebJaFnWa3Z4n0BFMVAXQ7mfUH11g"
	shared = "0AFqJ2K5kG6JXUk9PVA"
)

// Google's scopes, as it spells them.
const (
	scopeDrive = "https://www.googleapis.com/auth/drive"
	scopeFile  = "https://www.googleapis.com/auth/drive.file"
)

// consent is a config of the mode oauth.
func consent(params map[string]any) providers.Input {
	all := map[string]any{"client_id": "1234567890-abc.apps.googleusercontent.com"}
	maps.Copy(all, params)
	return providers.Input{Params: all, Secrets: secret.Map{"client_secret": secret.New("GOCSPX-canary-secret")}}
}

// account is a config of the mode service_account.
func account(t *testing.T, params map[string]any) providers.Input {
	t.Helper()
	file, _ := vendortest.ServiceAccount(t)
	all := map[string]any{"auth": "service_account"}
	maps.Copy(all, params)
	return providers.Input{Params: all, Secrets: secret.Map{"service_account_json": secret.New(file)}}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	file, _ := vendortest.ServiceAccount(t)
	var key map[string]any
	if err := json.Unmarshal([]byte(file), &key); err != nil {
		t.Fatal(err)
	}
	marshalled, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	imported := map[string]any{"auth": "service_account", "service_account_json": string(marshalled)}
	withFolder := maps.Clone(imported)
	withFolder["folder_id"] = folder
	besides := maps.Clone(key)
	besides["folder_id"] = folder
	bad := func(name string, value any, want string) providertest.Bad {
		return providertest.Bad{Input: consent(map[string]any{name: value}), Want: []string{"/params/" + name + " " + want}}
	}
	client := map[string]any{"client_id": "id", "client_secret": "s"}

	providertest.Run(t, gdrive.New(), providertest.Cases{
		Minimal: consent(nil),
		Full:    account(t, map[string]any{"folder_id": folder, "drive_id": shared, "subject": "files@acme.example"}),
		Tokens:  vendortest.Tokens(),
		Bad: map[string]providertest.Bad{
			"a folder that climbs":                {Input: consent(map[string]any{"folder_id": "../about"}), Want: []string{"/params/folder_id pattern"}},
			"a folder with a path":                bad("folder_id", "a/b", "pattern"),
			"a folder with a query":               bad("folder_id", "a?alt=media", "pattern"),
			"a folder that is escaped":            bad("folder_id", "a%2fb", "pattern"),
			"a folder's address":                  bad("folder_id", "https://drive.google.com/drive/folders/"+folder, "pattern"),
			"a drive that climbs":                 bad("drive_id", "../files", "pattern"),
			"a drive with a line break":           bad("drive_id", "a\nb", "control_character"),
			"a mode that does not exist":          bad("auth", "api_key", "enum"),
			"nothing":                             {Input: providers.Input{}, Want: []string{"/params/client_id required", "/secrets/client_secret required"}},
			"a service account without its key":   {Input: providers.Input{Params: map[string]any{"auth": "service_account"}}, Want: []string{"/secrets/service_account_json required"}},
			"a service account's key as a path":   {Input: providers.Input{Params: map[string]any{"auth": "service_account"}, Secrets: secret.Map{"service_account_json": secret.New("/etc/key.json")}}, Want: []string{"/secrets/service_account_json format"}},
			"a service account for no one's name": {Input: account(t, map[string]any{"subject": "Files"}), Want: []string{"/params/subject format"}},
		},
		Imports: map[string]providertest.Import{
			"a web client":               {Raw: map[string]any{"web": map[string]any{"client_id": "id", "client_secret": "s"}}, Want: client},
			"an installed client":        {Raw: map[string]any{"installed": map[string]any{"client_id": "id", "client_secret": "s"}}, Want: client},
			"a service account":          {Raw: key, Want: imported},
			"a service account as text":  {Raw: map[string]any{"credentials_json": file}, Want: imported},
			"a key file beside a folder": {Raw: besides, Want: withFolder},
			"a key file that was parsed": {Raw: map[string]any{"auth": "service_account", "service_account_json": key}, Want: imported},
			"a key file as text":         {Raw: map[string]any{"service_account_json": file}, Want: map[string]any{"service_account_json": file}},
			"dotted keys":                {Raw: map[string]any{"gdrive": map[string]any{"folder": map[string]any{"id": "f"}}}, Want: map[string]any{"folder_id": "f"}},
		},
		Test: true,
	})
}

func TestImportRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		raw  map[string]any
		at   string
		says string
	}{
		{"gcloud's own credentials", map[string]any{"type": "authorized_user", "client_id": "x", "refresh_token": "1//canary"}, "/params", "application default credentials"},
		{"Firebase", map[string]any{"apiKey": "canary", "authDomain": "acme.firebaseapp.com", "projectId": "acme"}, "/params", "Firebase"},
		{"a cut-off file", map[string]any{"credentials_json": `{"type":"service_account","private_key":"canary`}, "/params/credentials_json", "cut off"},
		{"a key file without a key", map[string]any{"type": "service_account", "client_email": "canary@x.iam.gserviceaccount.com"}, "/secrets/service_account_json", "lacks"},
		{"two modes", map[string]any{"web": map[string]any{"client_id": "canary"}, "client_id": "b"}, "/params/client_id", "twice"},
	} {
		_, err := gdrive.New().ImportConfig(t.Context(), c.raw)
		v := fault.Violations(err)
		if !errors.Is(err, fault.InvalidArgument) || len(v) != 1 || v[0].Pointer != c.at || !strings.Contains(v[0].Message, c.says) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestModesDoNotMix(t *testing.T) {
	t.Parallel()
	in := account(t, map[string]any{"client_id": "id"})
	in.Secrets["client_secret"] = secret.New("GOCSPX-canary-secret")
	c, err := gdrive.New().Schema().Decode(in, providers.DecodeOptions{})
	if err != nil || c.Params["client_id"] != nil || c.Secrets["client_secret"].IsSet() {
		t.Errorf("%v %v, %v", c.Params, c.Secrets.Names(), err)
	}
}

func TestOAuth(t *testing.T) {
	t.Parallel()
	p := gdrive.New()
	decode := func(in providers.Input) providers.Config {
		c, err := p.Schema().Decode(in, providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	app, wanted, err := p.OAuth(decode(consent(nil)))
	if err != nil || !wanted || app.Flow != providers.FlowConsent || app.Assertion != nil || !slices.Equal(app.Scopes, []string{scopeDrive}) ||
		app.AuthURL != "https://accounts.google.com/o/oauth2/v2/auth" || app.RevokeURL != "https://oauth2.googleapis.com/revoke" || app.Rotates ||
		!reflect.DeepEqual(app.AuthParams, map[string]string{"access_type": "offline", "prompt": "consent"}) {
		t.Errorf("%+v %v %v", app, wanted, err)
	}
	_, key := vendortest.ServiceAccount(t)
	for subject, params := range map[string]map[string]any{"": nil, "files@acme.example": {"subject": "files@acme.example"}} {
		app, wanted, err := p.OAuth(decode(account(t, params)))
		if err != nil || !wanted || app.Flow != providers.FlowJWTBearer || app.Assertion == nil || app.TokenURL != "https://oauth2.googleapis.com/token" {
			t.Fatalf("%+v %v %v", app, wanted, err)
		}
		if a := app.Assertion; a.Issuer != vendortest.AccountEmail || a.Subject != subject || a.KeyID != "canary-key-id" || !a.Key.Equal(key) || a.Audience != "" {
			t.Errorf("%+v", a)
		}
	}
}

// Whoever uploads a key file says what its token_uri is: a signed assertion must
// not go there.
func TestAssertionsGoToGoogleOnly(t *testing.T) {
	t.Parallel()
	in := account(t, nil)
	in.Secrets["service_account_json"] = secret.New(strings.Replace(in.Secrets["service_account_json"].Reveal(), "https://oauth2.googleapis.com/token", "https://evil.example/token", 1))
	for name, rt := range map[string]providers.Runtime{
		"https://oauth2.googleapis.com/token": {},
		"https://cloud.example/token":         {Endpoints: map[string]string{"google_drive.token": "https://cloud.example/token"}},
	} {
		p, ok := gdrive.New().Bind(rt).(providers.Authorizer)
		if !ok {
			t.Fatal("a bound provider mints no tokens")
		}
		c, err := gdrive.New().Schema().Decode(in, providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		app, _, err := p.OAuth(c)
		if err != nil || app.TokenURL != name || app.Assertion.Audience != "" {
			t.Errorf("%+v %v", app, err)
		}
	}
}

func TestOAuthRefusesKeyFiles(t *testing.T) {
	t.Parallel()
	c := providers.Config{Kind: "google_drive", Params: map[string]any{"auth": "service_account"}, Secrets: secret.Map{"service_account_json": secret.New(`{"type":"authorized_user","refresh_token":"1//canary"}`)}}
	_, _, err := gdrive.New().OAuth(c)
	v := fault.Violations(err)
	if !errors.Is(err, fault.InvalidArgument) || len(v) != 1 || v[0].Pointer != "/secrets/service_account_json" || strings.Contains(err.Error(), "canary") {
		t.Errorf("%v", err)
	}
}

// The documents that say what Google answers.
const (
	docAbout   = "https://developers.google.com/workspace/drive/api/reference/rest/v3/about/get"
	docErrors  = "https://developers.google.com/workspace/drive/api/guides/handle-errors"
	docFiles   = "https://developers.google.com/workspace/drive/api/reference/rest/v3/files/get"
	docFile    = "https://developers.google.com/workspace/drive/api/reference/rest/v3/files"
	docCreate  = "https://developers.google.com/workspace/drive/api/reference/rest/v3/files/create"
	docDrives  = "https://developers.google.com/workspace/drive/api/reference/rest/v3/drives/get"
	docShared  = "https://developers.google.com/workspace/drive/api/guides/about-shareddrives"
	docNoQuota = "https://github.com/n8n-io/n8n/issues/26050"
	docDelete  = "https://developers.google.com/workspace/drive/api/guides/delete"
	docScopes  = "https://developers.google.com/workspace/drive/api/guides/api-specific-auth"
	docAccount = "https://developers.google.com/identity/protocols/oauth2/service-account"
	docToken   = "https://www.rfc-editor.org/rfc/rfc6749#section-5.2"
)

type routes = map[string]http.HandlerFunc

const (
	routeAbout  = "GET /drive/v3/about"
	routeFolder = "GET /drive/v3/files/" + folder
	routeDrive  = "GET /drive/v3/drives/" + shared
	routeCreate = "POST /drive/v3/files"
	routeDelete = "DELETE /drive/v3/files/probe1"
	routeTrash  = "PATCH /drive/v3/files/probe1"
)

func trap(rs routes, in providers.Input) func(*testing.T) (providers.Provider, providers.Input) {
	return func(t *testing.T) (providers.Provider, providers.Input) {
		auth := routes{}
		for pattern, h := range rs {
			auth[pattern] = vendortest.Wants(t, "Bearer "+vendortest.AccessToken, h)
		}
		s := vendortest.Serve(t, auth)
		return gdrive.New().Bind(vendortest.Runtime(t, map[string]string{"google_drive": s.URL})), in
	}
}

// query is h for a request with exactly this query; Google answers a request
// without fields, or one that forgets shared drives, differently.
func query(t *testing.T, want string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := url.ParseQuery(want)
		if err != nil || !reflect.DeepEqual(r.URL.Query(), q) {
			t.Errorf("%s %s asks with %s, not %s", r.Method, r.URL.Path, r.URL.RawQuery, want)
		}
		h(w, r)
	}
}

func refusal(status int, reason string) http.HandlerFunc {
	return vendortest.Answer(status, `{"error":{"errors":[{"domain":"global","reason":"`+reason+`","message":"m"}],"code":403,"message":"m"}}`)
}

func TestTraps(t *testing.T) {
	t.Parallel()
	about := func(quota string) http.HandlerFunc {
		return query(t, "fields=user,storageQuota", vendortest.Answer(200, `{"user":{"kind":"drive#user","displayName":"Files","me":true,"permissionId":"1","emailAddress":"files@acme.example"},"storageQuota":`+quota+`}`))
	}
	folderOf := func(body string) http.HandlerFunc {
		return query(t, "supportsAllDrives=true&fields=id,mimeType,trashed,driveId,capabilities/canAddChildren", vendortest.Answer(200, body))
	}
	const kind = `"id":"` + folder + `","mimeType":"application/vnd.google-apps.folder","trashed":false`
	var (
		me       = about(`{"limit":"16106127360","usage":"1024","usageInDrive":"1024","usageInDriveTrash":"0"}`)
		none     = about(`{"limit":"0","usage":"0"}`)
		own      = folderOf(`{` + kind + `,"capabilities":{"canAddChildren":true}}`)
		inShared = folderOf(`{` + kind + `,"driveId":"` + shared + `","capabilities":{"canAddChildren":true}}`)
		drive    = query(t, "fields=id,capabilities/canAddChildren", vendortest.Answer(200, `{"id":"`+shared+`","capabilities":{"canAddChildren":true}}`))
		notFound = refusal(404, "notFound")
		granted  = vendortest.Tokens(scopeDrive)
		ofFile   = vendortest.Tokens(scopeFile)
		sa       = vendortest.Tokens()

		inFolder = map[string]any{"folder_id": folder}
		inDrive  = map[string]any{"drive_id": shared}
		inBoth   = map[string]any{"folder_id": folder, "drive_id": shared}
		created  = creates(t, folder)
		trashed  = query(t, "supportsAllDrives=true&fields=id", vendortest.Answer(200, `{"id":"probe1"}`))
		gone     = query(t, "supportsAllDrives=true", vendortest.Answer(204, ""))
	)
	delegated := func(params map[string]any) map[string]any {
		all := map[string]any{"subject": "files@acme.example"}
		maps.Copy(all, params)
		return all
	}
	odd := account(t, inDrive)
	odd.Secrets["service_account_json"] = secret.New(strings.Replace(odd.Secrets["service_account_json"].Reveal(), "https://oauth2.googleapis.com/token", "https://evil.example/token", 1))
	withKey := func(file string) providers.Input {
		in := account(t, nil)
		in.Secrets["service_account_json"] = secret.New(file)
		return in
	}
	file, key := vendortest.ServiceAccount(t)
	escaped, err := json.Marshal(key.Reveal())
	if err != nil {
		t.Fatal(err)
	}

	traps := []providertest.Trap{
		{Name: "all is well with a Google account", Doc: docAbout, Level: 2, Tokens: granted, Make: trap(routes{routeAbout: me}, consent(nil))},
		{Name: "all is well with a folder", Doc: docFiles, Level: 2, Tokens: granted, Make: trap(routes{routeAbout: me, routeFolder: own}, consent(inFolder))},
		{Name: "all is well with a folder in a shared drive", Doc: docShared, Level: 2, Tokens: granted, Make: trap(routes{routeAbout: me, routeFolder: inShared, routeDrive: drive}, consent(inBoth))},
		{Name: "a service account and a shared drive", Doc: docShared, Level: 2, Step: "scopes", Status: providers.StepSkip, Tokens: sa, Make: trap(routes{routeAbout: none, routeDrive: drive}, account(t, inDrive))},
		{Name: "a service account and a folder in a shared drive", Doc: docShared, Level: 2, Step: "scopes", Status: providers.StepSkip, Tokens: sa, Make: trap(routes{routeAbout: none, routeFolder: inShared}, account(t, inFolder))},
		{Name: "a service account that acts for a user", Doc: docAccount, Level: 2, Step: "scopes", Status: providers.StepSkip, Tokens: sa, Make: trap(routes{routeAbout: me, routeFolder: own}, account(t, delegated(inFolder)))},
		{Name: "storage without a limit", Doc: docAbout, Level: 2, Tokens: granted, Make: trap(routes{routeAbout: about(`{"usage":"99999999999"}`)}, consent(nil))},

		{Name: "nobody has connected an account", Doc: docToken, Step: "token", Status: providers.StepFail, Code: providers.CodeConsentMissing, Make: trap(nil, consent(nil))},
		{Name: "a process that mints no tokens", Step: "token", Status: providers.StepFail, Code: providers.CodeNoNetwork, Make: trap(nil, account(t, nil))},
		{
			Name: "a service account that was deleted", Doc: docAccount + "#jwterrorcodes", Step: "token", Status: providers.StepFail, Code: providers.CodeOAuthRefused,
			Tokens: vendortest.NoTokens(providers.CodeOAuthRefused), Make: trap(nil, account(t, nil)),
		},
		{
			Name: "delegation that nobody allowed", Doc: docAccount + "#jwterrorcodes", Step: "token", Status: providers.StepFail, Code: providers.CodeOAuthClientInvalid,
			Tokens: vendortest.NoTokens(providers.CodeOAuthClientInvalid), Make: trap(nil, account(t, delegated(nil))),
		},
		{
			Name: "a key file that names another token address", Doc: docAccount, Step: "key", Status: providers.StepWarn, Code: providers.CodeKeyMalformed,
			Tokens: sa, Make: trap(routes{routeAbout: me}, odd),
		},
		{
			Name: "a key file of gcloud's own credentials", Doc: "https://cloud.google.com/docs/authentication/application-default-credentials", Step: "key", Status: providers.StepFail, Code: providers.CodeWrongProduct,
			Tokens: sa, Make: trap(nil, withKey(`{"type":"authorized_user","client_id":"x","client_secret":"y","refresh_token":"z"}`)),
		},
		{
			Name: "a key file of an OAuth client", Doc: "https://developers.google.com/workspace/guides/create-credentials", Step: "key", Status: providers.StepFail, Code: providers.CodeWrongProduct,
			Tokens: sa, Make: trap(nil, withKey(`{"web":{"client_id":"x"}}`)),
		},
		{
			Name: "a key file without its key", Doc: docAccount, Step: "key", Status: providers.StepFail, Code: providers.CodeConfigIncomplete,
			Tokens: sa, Make: trap(nil, withKey(`{"type":"service_account","client_email":"x@y.iam.gserviceaccount.com"}`)),
		},
		{
			Name: "a key file with a damaged key", Doc: docAccount, Step: "key", Status: providers.StepFail, Code: providers.CodeConfigIncomplete, Tokens: sa,
			Make: trap(nil, withKey(strings.Replace(file, string(escaped), `"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"`, 1))),
		},

		{
			Name: "an access token that was revoked", Doc: docErrors, Step: "account", Status: providers.StepFail, Code: providers.CodeAuthFailed, Tokens: granted,
			Make: trap(routes{routeAbout: refusal(401, "authError")}, consent(nil)),
		},
		{
			Name: "the Drive API is not enabled", Doc: "https://github.com/openclaw/gogcli/issues/489", Step: "account", Status: providers.StepFail, Code: providers.CodeAPIDisabled, Tokens: granted,
			Make: trap(routes{routeAbout: refusal(403, "accessNotConfigured")}, consent(nil)),
		},
		{
			Name: "a token without a scope of Drive", Doc: docErrors, Step: "account", Status: providers.StepFail, Code: providers.CodeScopeMissing, Tokens: vendortest.Tokens("openid"),
			Make: trap(routes{routeAbout: refusal(403, "insufficientPermissions")}, consent(nil)),
		},
		{
			Name: "403 for too many requests", Doc: docErrors, Step: "account", Status: providers.StepFail, Code: providers.CodeRateLimited, Tokens: granted,
			Make: trap(routes{routeAbout: refusal(403, "userRateLimitExceeded")}, consent(nil)),
		},
		{
			Name: "the project's daily quota is used up", Doc: docErrors, Step: "account", Status: providers.StepFail, Code: providers.CodeQuotaExceeded, Tokens: granted,
			Make: trap(routes{routeAbout: refusal(403, "dailyLimitExceeded")}, consent(nil)),
		},
		{
			Name: "Drive that the domain's administrator switched off", Doc: docErrors, Step: "account", Status: providers.StepFail, Code: providers.CodePermissionDenied, Tokens: granted,
			Make: trap(routes{routeAbout: refusal(403, "domainPolicy")}, consent(nil)),
		},

		{
			Name: "a consent for reading only", Doc: docScopes, Level: 2, Step: "scopes", Status: providers.StepFail, Code: providers.CodeScopeMissing,
			Tokens: vendortest.Tokens(scopeDrive + ".readonly"), Make: trap(routes{routeAbout: me}, consent(nil)),
		},
		{
			Name: "404 for a folder", Doc: docErrors, Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeFolderNotFound, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: notFound}, consent(inFolder)),
		},
		{
			Name: "404 because the scope is drive.file", Doc: docScopes, Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeFolderNotFound, Tokens: ofFile,
			Make: trap(routes{routeAbout: me, routeFolder: notFound}, consent(inFolder)),
		},
		{
			Name: "404 because the folder is not shared with the service account", Doc: docErrors, Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeFolderNotFound, Tokens: sa,
			Make: trap(routes{routeAbout: none, routeFolder: notFound}, account(t, inFolder)),
		},
		{
			Name: "a file's id for a folder", Doc: docFile, Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeFolderNotFound, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: folderOf(`{"id":"` + folder + `","mimeType":"image/png","trashed":false,"capabilities":{"canAddChildren":false}}`)}, consent(inFolder)),
		},
		{
			Name: "a folder in the trash", Doc: docDelete, Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeFolderNotFound, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: folderOf(`{"id":"` + folder + `","mimeType":"application/vnd.google-apps.folder","trashed":true,"capabilities":{"canAddChildren":true}}`)}, consent(inFolder)),
		},
		{
			Name: "a folder that may be read only", Doc: docFile, Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodePermissionDenied, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: folderOf(`{` + kind + `,"capabilities":{"canAddChildren":false}}`)}, consent(inFolder)),
		},
		{
			Name: "a folder that is not in the shared drive", Doc: docFile, Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeFolderNotFound, Tokens: granted,
			Fix: map[string]any{"drive_id": nil}, Make: trap(routes{routeAbout: me, routeFolder: own, routeDrive: drive}, consent(inBoth)),
		},
		{
			Name: "a folder in another shared drive", Doc: docFile, Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeFolderNotFound, Tokens: granted,
			Fix:  map[string]any{"drive_id": "0Another"},
			Make: trap(routes{routeAbout: me, routeFolder: folderOf(`{` + kind + `,"driveId":"0Another","capabilities":{"canAddChildren":true}}`), routeDrive: drive}, consent(inBoth)),
		},
		{
			Name: "a folder of another form", Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeUnexpectedBody, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: folderOf(`{"id":"` + folder + `"}`)}, consent(inFolder)),
		},
		{
			Name: "404 for a shared drive", Doc: docDrives, Level: 2, Step: "drive", Status: providers.StepFail, Code: providers.CodeFolderNotFound, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeDrive: notFound}, consent(inDrive)),
		},
		{
			Name: "a shared drive that may be read only", Doc: docDrives, Level: 2, Step: "drive", Status: providers.StepFail, Code: providers.CodePermissionDenied, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeDrive: vendortest.Answer(200, `{"id":"`+shared+`","capabilities":{"canAddChildren":false}}`)}, consent(inDrive)),
		},
		{
			Name: "a service account without a shared drive", Doc: docNoQuota, Level: 2, Step: "quota", Status: providers.StepFail, Code: providers.CodeNoStorageQuota, Tokens: sa,
			Make: trap(routes{routeAbout: none}, account(t, nil)),
		},
		{
			Name: "a service account and a person's folder", Doc: docNoQuota, Level: 2, Step: "quota", Status: providers.StepFail, Code: providers.CodeNoStorageQuota, Tokens: sa,
			Make: trap(routes{routeAbout: me, routeFolder: own}, account(t, inFolder)),
		},
		{
			Name: "an account without storage", Doc: docAbout, Level: 2, Step: "quota", Status: providers.StepFail, Code: providers.CodeNoStorageQuota, Tokens: granted,
			Make: trap(routes{routeAbout: none}, consent(nil)),
		},
		{
			Name: "a full account", Doc: docAbout, Level: 2, Step: "quota", Status: providers.StepFail, Code: providers.CodeQuotaExceeded, Tokens: granted,
			Make: trap(routes{routeAbout: about(`{"limit":"16106127360","usage":"16106127361"}`)}, consent(nil)),
		},

		{
			Name: "a file made and deleted", Doc: docCreate, Level: 3, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: own, routeCreate: created, routeDelete: gone}, consent(inFolder)),
		},
		{
			Name: "a file made and deleted at the top of a shared drive", Doc: docCreate, Level: 3, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeDrive: drive, routeCreate: creates(t, shared), routeDelete: gone}, consent(inDrive)),
		},
		{
			Name: "a file made and deleted at the top of one's own", Doc: docCreate, Level: 3, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeCreate: creates(t, ""), routeDelete: gone}, consent(nil)),
		},
		{
			Name: "an account that may not delete for good", Doc: docDelete, Level: 3, Step: "delete", Status: providers.StepWarn, Code: providers.CodeTracesLeft, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: inShared, routeCreate: created, routeDelete: refusal(403, "insufficientFilePermissions"), routeTrash: trashed}, consent(inFolder)),
		},
		{
			Name: "an account that may not delete at all", Doc: docDelete, Level: 3, Step: "delete", Status: providers.StepWarn, Code: providers.CodeTracesLeft, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: inShared, routeCreate: created, routeDelete: refusal(403, "insufficientFilePermissions"), routeTrash: refusal(403, "insufficientFilePermissions")}, consent(inFolder)),
		},
		{
			Name: "storage that is full, which the upload shows", Doc: docErrors, Level: 3, Step: "write", Status: providers.StepFail, Code: providers.CodeQuotaExceeded, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: own, routeCreate: refusal(403, "storageQuotaExceeded")}, consent(inFolder)),
		},
		{
			Name: "a folder that may not be written after all", Doc: docErrors, Level: 3, Step: "write", Status: providers.StepFail, Code: providers.CodePermissionDenied, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: own, routeCreate: refusal(403, "insufficientFilePermissions")}, consent(inFolder)),
		},
		{
			Name: "an upload without an answer", Level: 3, Step: "write", Status: providers.StepFail, Code: providers.CodeConnectionReset, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: own, routeCreate: hangUp}, consent(inFolder)),
		},
		{
			Name: "an upload that answers something else", Level: 3, Step: "write", Status: providers.StepFail, Code: providers.CodeUnexpectedBody, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: own, routeCreate: vendortest.Answer(200, `{"status":"ok"}`)}, consent(inFolder)),
		},
	}
	traps = append(traps,
		providertest.Trap{
			Name: "a hang at the step folder", Level: 2, Step: "folder", Status: providers.StepFail, Code: providers.CodeTimeout, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: vendortest.Hang}, consent(inFolder)),
		},
		providertest.Trap{
			Name: "a hang at the step drive", Level: 2, Step: "drive", Status: providers.StepFail, Code: providers.CodeTimeout, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeDrive: vendortest.Hang}, consent(inDrive)),
		},
		providertest.Trap{
			Name: "a hang at the step write", Level: 3, Step: "write", Status: providers.StepFail, Code: providers.CodeTimeout, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: own, routeCreate: vendortest.Hang}, consent(inFolder)),
		},
		providertest.Trap{
			Name: "a hang at the step delete", Level: 3, Step: "delete", Status: providers.StepWarn, Code: providers.CodeTracesLeft, Tokens: granted,
			Make: trap(routes{routeAbout: me, routeFolder: own, routeCreate: created, routeDelete: vendortest.Hang}, consent(inFolder)),
		},
	)
	traps = append(traps, vendortest.TokenTraps(docToken, func() (providers.Provider, providers.Input) { return gdrive.New(), consent(nil) })...)
	traps = append(traps, vendortest.Traps("account", "google_drive", granted, func(_ *testing.T, rt providers.Runtime) (providers.Provider, providers.Input) {
		return gdrive.New().Bind(rt), consent(nil)
	})...)
	providertest.RunTraps(t, traps)
}

// creates makes the file probe1 if it goes to this parent, "" for none.
func creates(t *testing.T, parent string) http.HandlerFunc {
	return query(t, "supportsAllDrives=true&fields=id", func(w http.ResponseWriter, r *http.Request) {
		var f struct {
			Name    string
			Parents []string
		}
		if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
			t.Errorf("the file: %v", err)
		}
		if f.Name == "" || len(f.Parents) > 1 || strings.Join(f.Parents, "") != parent || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("a file %+v for %q", f, parent)
		}
		vendortest.Answer(200, `{"id":"probe1"}`)(w, r)
	})
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// The hints are what an admin acts on: each names its reasons.
func TestHints(t *testing.T) {
	t.Parallel()
	me := vendortest.Answer(200, `{"user":{"emailAddress":"files@acme.example"},"storageQuota":{"limit":"0"}}`)
	missing := routes{routeAbout: me, routeFolder: refusal(404, "notFound")}
	inFolder := map[string]any{"folder_id": folder}
	for _, c := range []struct {
		name   string
		rs     routes
		in     providers.Input
		tokens providers.TokenSource
		says   []string
	}{
		{"404 by drive.file", missing, consent(inFolder), vendortest.Tokens(scopeFile), []string{"id is wrong", "deleted", "isn't shared", "drive.file"}},
		{"404 by a service account", missing, account(t, inFolder), vendortest.Tokens(), []string{"isn't shared", "service account's own address"}},
		{
			"an upload without an answer", routes{routeAbout: vendortest.Answer(200, `{"user":{"emailAddress":"files@acme.example"}}`), routeCreate: hangUp}, consent(nil), vendortest.Tokens(scopeDrive),
			[]string{"may have been made"},
		},
		{"no delegation", nil, account(t, map[string]any{"subject": "a@acme.example"}), vendortest.NoTokens(providers.CodeOAuthClientInvalid), []string{"domain-wide delegation", scopeDrive}},
		{"a deleted account", nil, account(t, nil), vendortest.NoTokens(providers.CodeNeedsReauthorization), []string{"service account", "clock"}},
	} {
		p, in := trap(c.rs, c.in)(t)
		cfg, err := p.Schema().Decode(in, providers.DecodeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Tokens = c.tokens
		r, err := p.TestConnection(t.Context(), cfg, providers.TestOptions{Level: 3})
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range c.says {
			if !strings.Contains(r.Message, word) {
				t.Errorf("%s: %q does not say %q", c.name, r.Message, word)
			}
		}
	}
}

// The schema refuses such ids; should one ever get past it (an older record), it
// is still one segment of the path.
func TestIDStaysOneSegment(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{"../about": "/drive/v3/files/..%2Fabout", "a/b?c": "/drive/v3/files/a%2Fb%3Fc", "a#b": "/drive/v3/files/a%23b"} {
		s := vendortest.Serve(t, routes{
			routeAbout: vendortest.Answer(200, `{"user":{"emailAddress":"files@acme.example"}}`),
			"/":        refusal(404, "notFound"),
		})
		p := gdrive.New().Bind(vendortest.Runtime(t, map[string]string{"google_drive": s.URL}))
		c := providers.Config{Kind: "google_drive", Params: map[string]any{"client_id": "id", "folder_id": id}, Tokens: vendortest.Tokens()}
		if _, err := p.TestConnection(t.Context(), c, providers.TestOptions{Level: 2}); err != nil {
			t.Fatal(err)
		}
		if got := s.Requests(); len(got) != 2 || got[1].Path != want {
			t.Errorf("%s: %+v", id, got)
		}
	}
}
