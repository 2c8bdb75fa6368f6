package google

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/vendortest"
)

// parsed is a file as an API call or a data file carries it.
func parsed(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	web = `{"web":{"client_id":"id.apps.googleusercontent.com","project_id":"acme","auth_uri":"https://evil.example/auth",` +
		`"token_uri":"https://evil.example/token","client_secret":"GOCSPX-canary","redirect_uris":["https://acme.example/cb"]}}`
	installed = `{"installed":{"client_id":"id.apps.googleusercontent.com","client_secret":"GOCSPX-canary","redirect_uris":["http://localhost"]}}`
	adc       = `{"type":"authorized_user","client_id":"764086051850-x","client_secret":"canary-secret","refresh_token":"1//canary"}`
	firebase  = `{"apiKey":"AIzaCanary","authDomain":"acme.firebaseapp.com","projectId":"acme","appId":"1:1:web:1"}`
	android   = `{"project_info":{"project_number":"1"},"client":[{"client_info":{}}]}`
	python    = `{"token":"ya29.canary","refresh_token":"1//canary","token_uri":"https://oauth2.googleapis.com/token","client_id":"x","scopes":["a"]}`
)

func client() map[string]any {
	return map[string]any{"client_id": "id.apps.googleusercontent.com", "client_secret": "GOCSPX-canary"}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	declared := func(name string) bool { return name == "folder_id" || name == "client_id" }
	for _, c := range []struct {
		name string
		raw  map[string]any
		want File
	}{
		{"web", parsed(t, web), File{Client: client(), Rest: map[string]any{}}},
		{"installed", parsed(t, installed), File{Client: client(), Rest: map[string]any{}}},
		{"as text", map[string]any{"credentials_json": web, "sender": "a@b.example"}, File{Client: client(), Rest: map[string]any{"sender": "a@b.example"}}},
		{"as text of a variable", map[string]any{"credentials_json": providers.TextValue(installed)}, File{Client: client(), Rest: map[string]any{}}},
		{"parsed, under credentials_json", map[string]any{"credentials_json": parsed(t, web)}, File{Client: client(), Rest: map[string]any{}}},
		{"in a wrapper", map[string]any{"credentials": parsed(t, web), "sender": "s"}, File{Client: client(), Rest: map[string]any{"sender": "s"}}},
		{"without a secret", parsed(t, `{"installed":{"client_id":"id"}}`), File{Client: map[string]any{"client_id": "id"}, Rest: map[string]any{}}},
		{"params of ours", map[string]any{"client_id": "id", "folder_id": "f"}, File{Rest: map[string]any{"client_id": "id", "folder_id": "f"}}},
		{"nested params of ours", map[string]any{"gmail": map[string]any{"sender": "s"}}, File{Rest: map[string]any{"gmail": map[string]any{"sender": "s"}}}},
		{"a param that is called web", map[string]any{"web": "x"}, File{Rest: map[string]any{"web": "x"}}},
		{"nothing", nil, File{}},
	} {
		before := maps.Clone(c.raw)
		got, err := ReadFile(c.raw, declared)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.name, got, err)
		}
		if !reflect.DeepEqual(before, c.raw) {
			t.Errorf("%s: the input was modified", c.name)
		}
	}
}

func TestReadFileOfAServiceAccount(t *testing.T) {
	t.Parallel()
	declared := func(name string) bool { return name == "folder_id" || name == "client_id" }
	text, _ := vendortest.ServiceAccount(t)
	for name, raw := range map[string]map[string]any{
		"itself":     parsed(t, text),
		"as text":    {"credentials_json": text},
		"in wrapper": {"config": parsed(t, text)},
	} {
		raw["folder_id"] = "f"
		got, err := ReadFile(raw, declared)
		if err != nil || got.Client != nil || !reflect.DeepEqual(got.Rest, map[string]any{"folder_id": "f"}) ||
			!reflect.DeepEqual(parsed(t, got.ServiceAccount), parsed(t, text)) {
			t.Errorf("%s: %+v, %v", name, got.Rest, err)
		}
	}
}

func TestReadFileRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		raw  map[string]any
		at   string
		says string
	}{
		{"gcloud's own credentials", parsed(t, adc), "/params", "application default credentials"},
		{"gcloud's own credentials as text", map[string]any{"credentials_json": adc}, "/params", "application default credentials"},
		{"gcloud's own credentials in a wrapper", map[string]any{"credentials": parsed(t, adc)}, "/params", "application default credentials"},
		{"a Firebase web app", parsed(t, firebase), "/params", "Firebase web app"},
		{"a Firebase Android app", parsed(t, android), "/params", "google-services.json"},
		{"a token file", parsed(t, python), "/params", "token file"},
		{"workload identity", parsed(t, `{"type":"external_account","audience":"//iam"}`), "/params", "workload identity"},
		{"impersonation", parsed(t, `{"type":"impersonated_service_account"}`), "/params", "impersonating"},
		{"cut off", map[string]any{"credentials_json": web[:80]}, "/params/credentials_json", "cut off"},
		{"not JSON", map[string]any{"credentials_json": "client_id=id"}, "/params/credentials_json", "cut off"},
		{"not an object", map[string]any{"credentials_json": `["web"]`}, "/params/credentials_json", "cut off"},
		{"another file", map[string]any{"credentials_json": `{"aws_access_key_id":"AKIA"}`}, "/params/credentials_json", "no credentials file"},
		{"two clients", map[string]any{"web": map[string]any{"client_id": "a"}, "installed": map[string]any{"client_id": "b"}}, "/params/installed", "which one"},
		{"no client id", parsed(t, `{"web":{"client_secret":"canary"}}`), "/params/web", "no client_id"},
		{"one name twice", map[string]any{"credentials_json": map[string]any{"sender": "a"}, "sender": "b"}, "/params/sender", "twice"},
	} {
		_, err := ReadFile(c.raw, func(string) bool { return false })
		v := fault.Violations(err)
		if !errors.Is(err, fault.InvalidArgument) || len(v) != 1 || v[0].Pointer != c.at || !strings.Contains(v[0].Message, c.says) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && (strings.Contains(err.Error(), "anary") || strings.Contains(err.Error(), "AKIA")) {
			t.Errorf("%s: the error repeats the file: %v", c.name, err)
		}
	}
}

func TestServiceAccount(t *testing.T) {
	t.Parallel()
	text, key := vendortest.ServiceAccount(t)
	a, problem := ReadServiceAccount(secret.New(text))
	if problem != nil || a.Email != vendortest.AccountEmail || a.KeyID != "canary-key-id" || !a.Key.Equal(key) || a.Elsewhere {
		t.Fatalf("%+v, %v", a, problem)
	}
	if problem := a.CheckKey(); problem != nil {
		t.Error(problem)
	}
	with := func(name string, value any) secret.Value {
		m := parsed(t, text)
		m[name] = value
		b, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return secret.New(string(b))
	}
	for uri, elsewhere := range map[string]bool{
		"https://oauth2.googleapis.com/token": false, "https://accounts.google.com/o/oauth2/token": false, "": false,
		"https://evil.example/token": true, "https://oauth2.googleapis.com.evil.example/token": true, "http://oauth2.googleapis.com/token": true,
		"https://oauth2.googleapis.com@evil.example/": true,
	} {
		if a, problem := ReadServiceAccount(with("token_uri", uri)); problem != nil || a.Elsewhere != elsewhere {
			t.Errorf("token_uri %q: %v, %v", uri, a.Elsewhere, problem)
		}
	}
	for _, c := range []struct {
		name string
		file secret.Value
		code providers.TestCode
		says string
	}{
		{"none", secret.Value{}, providers.CodeConfigIncomplete, "missing"},
		{"cut off", secret.New(text[:len(text)/2]), providers.CodeConfigIncomplete, "cut off"},
		{"a list", secret.New(`["service_account"]`), providers.CodeConfigIncomplete, "cut off"},
		{"gcloud's own credentials", secret.New(adc), providers.CodeWrongProduct, "application default credentials"},
		{"a client's file", secret.New(web), providers.CodeWrongProduct, "not the key file"},
		{"no address", with("client_email", ""), providers.CodeConfigIncomplete, "lacks"},
		{"no key", with("private_key", ""), providers.CodeConfigIncomplete, "lacks"},
		{"a number as the key", with("private_key", 1), providers.CodeConfigIncomplete, "not JSON"},
		{"a key without line breaks", with("private_key", "-----BEGIN PRIVATE KEY-----MIIE-----END PRIVATE KEY-----"), providers.CodeConfigIncomplete, "PEM"},
	} {
		_, problem := ReadServiceAccount(c.file)
		if problem == nil || problem.Code != c.code || !strings.Contains(problem.Message, c.says) {
			t.Errorf("%s: %v", c.name, problem)
		}
	}
	damaged, problem := ReadServiceAccount(with("private_key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	if problem != nil || damaged.CheckKey() == nil {
		t.Errorf("a damaged key is taken: %v", problem)
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	c := providers.Config{Kind: "gmail_oauth2", Params: map[string]any{"client_id": "id"}, Secrets: secret.Map{"client_secret": secret.New("s")}}
	google := ConsentApp(providers.Runtime{}, c, []string{"a"}, map[string]string{"login_hint": "x"})
	if google.AuthURL != "https://accounts.google.com/o/oauth2/v2/auth" || google.TokenURL != "https://oauth2.googleapis.com/token" ||
		google.RevokeURL != "https://oauth2.googleapis.com/revoke" || google.Rotates || google.Flow != providers.FlowConsent ||
		!reflect.DeepEqual(google.AuthParams, map[string]string{"access_type": "offline", "prompt": "consent", "login_hint": "x"}) {
		t.Errorf("%+v", google)
	}
	other := ConsentApp(providers.Runtime{Endpoints: map[string]string{
		"gmail_oauth2": "https://cloud.example/", "gmail_oauth2.token": "https://id.example/oauth/token",
	}}, c, nil, nil)
	if other.AuthURL != "https://cloud.example/o/oauth2/v2/auth" || other.TokenURL != "https://id.example/oauth/token" || other.RevokeURL != "https://cloud.example/revoke" {
		t.Errorf("%+v", other)
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	reason := func(r string) string {
		return `{"error":{"errors":[{"domain":"usageLimits","reason":"` + r + `","message":"m"}],"code":403,"message":"m"}}`
	}
	for _, c := range []struct {
		name   string
		status int
		body   string
		code   providers.TestCode
	}{
		{"expired token", 401, `{"error":{"errors":[{"reason":"authError"}],"code":401}}`, providers.CodeAuthFailed},
		{"userinfo's form", 401, `{"error":"invalid_request","error_description":"Invalid Credentials"}`, providers.CodeAuthFailed},
		{"scopes, old form", 403, reason("insufficientPermissions"), providers.CodeScopeMissing},
		{
			"scopes, new form", 403, `{"error":{"code":403,"status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"ACCESS_TOKEN_SCOPE_INSUFFICIENT"}]}}`,
			providers.CodeScopeMissing,
		},
		{"API off, old form", 403, reason("accessNotConfigured"), providers.CodeAPIDisabled},
		{"API off, new form", 403, `{"error":{"details":[{"reason":"SERVICE_DISABLED"}]}}`, providers.CodeAPIDisabled},
		{"user's rate", 403, reason("userRateLimitExceeded"), providers.CodeRateLimited},
		{"project's rate", 403, reason("rateLimitExceeded"), providers.CodeRateLimited},
		{"429", 429, reason("rateLimitExceeded"), providers.CodeRateLimited},
		{"429 as HTML", 429, "<html>", providers.CodeRateLimited},
		{"day's quota", 403, reason("dailyLimitExceeded"), providers.CodeQuotaExceeded},
		{"storage", 403, reason("storageQuotaExceeded"), providers.CodeQuotaExceeded},
		{"policy", 403, reason("domainPolicy"), providers.CodePermissionDenied},
		{"file", 403, reason("insufficientFilePermissions"), providers.CodePermissionDenied},
		{"another reason", 403, reason("brandNew"), providers.CodePermissionDenied},
		{"403 as HTML", 403, "<html>", providers.CodeUnexpectedBody},
		{"404", 404, reason("notFound"), providers.CodeNotFound},
		{"404 as HTML", 404, "<html>", providers.CodeUnexpectedBody},
		{"400", 400, reason("badRequest"), providers.CodeUnexpectedStatus},
		{"500", 500, reason("backendError"), providers.CodeVendorError},
		{"503 as HTML", 503, "<html>", providers.CodeVendorError},
		{"500 that mentions a scope", 500, reason("insufficientPermissions"), providers.CodeVendorError},
	} {
		o := Refused(providers.Response{Status: c.status, Body: []byte(c.body), Header: http.Header{}})
		if o.Status != providers.StepFail || o.Code != c.code {
			t.Errorf("%s: %+v", c.name, o)
		}
	}
	o := Refused(providers.Response{Status: 403, Body: []byte(reason("userRateLimitExceeded")), Header: http.Header{"Retry-After": {"17"}}})
	if !strings.Contains(o.Hint, "17 s") {
		t.Errorf("the time to wait is lost: %q", o.Hint)
	}
}
