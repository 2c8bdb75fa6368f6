package google

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/patchbay-dev/patchbay/internal/fault"
	"github.com/patchbay-dev/patchbay/providers"
)

// ImportFormats are the files of Google's that [ReadFile] takes apart.
var (
	ClientFormat = providers.ImportFormat{
		Name: "google_credentials_json", Label: "OAuth client (credentials.json)",
		Hint: "The file that the Google Cloud console offers for an OAuth client, of the type web or desktop.",
	}
	ServiceAccountFormat = providers.ImportFormat{
		Name: "google_service_account_json", Label: "Service account key (JSON)",
		Hint: "The key file of a service account.",
	}
)

// textKey is the key under which a file may come as text instead of parsed.
const textKey = "credentials_json"

// File is an imported map, taken apart.
type File struct {
	// Client holds client_id and client_secret of an OAuth client's file, of what
	// the file has; nil where there is none.
	Client map[string]any
	// ServiceAccount is the JSON text of a service account's key file, "" where
	// there is none.
	ServiceAccount string
	// Rest is everything else, as it was. What a file doesn't say is not in it: an
	// import changes what it brings and wipes nothing.
	Rest map[string]any
}

// Declared tells whether a name is one of the kind's own params or secrets.
func Declared(s *providers.Schema) func(name string) bool {
	return func(name string) bool {
		name = s.Canonical(name)
		return s.Param(name) != nil || s.IsSecret(name)
	}
}

// ReadFile finds a credentials file of Google's in raw: the file itself, the
// file beside other params, or its text under credentials_json. declared tells
// the kind's own names, see [Declared]: they are never part of a key file, but
// for client_id, which both have. raw is not modified. Errors: fault.InvalidArgument for a file that is cut off,
// ambiguous, or of another product; its message names what it is and repeats
// none of its values.
func ReadFile(raw map[string]any, declared func(name string) bool) (File, error) {
	rest := maps.Clone(raw)
	if text, ok := textOf(rest[textKey]); ok {
		var m map[string]any
		if json.Unmarshal([]byte(text), &m) != nil {
			return File{}, wrongFile(textKey, "is not a whole JSON file: is it cut off?")
		}
		delete(rest, textKey)
		f, err := read(m, func(string) bool { return false })
		if err != nil {
			return File{}, err
		}
		if f.Client == nil && f.ServiceAccount == "" {
			return File{}, wrongFile(textKey, "is no credentials file of Google's: expected an OAuth client or a service account")
		}
		f.Rest = rest
		return f, nil
	}
	if m, ok := rest[textKey].(map[string]any); ok {
		delete(rest, textKey)
		for k, v := range m {
			if _, twice := rest[k]; twice {
				return File{}, wrongFile(k, "is given twice, once in the credentials file")
			}
			rest[k] = v
		}
	}
	// A wrapper around the whole file ("credentials", the kind's name).
	for _, name := range slices.Sorted(maps.Keys(rest)) {
		if m, ok := rest[name].(map[string]any); ok && !declared(name) && isFile(m) {
			delete(rest, name)
			f, err := read(maps.Clone(m), declared)
			if err != nil {
				return File{}, err
			}
			f.Rest, err = Merge(rest, f.Rest)
			return f, err
		}
	}
	return read(rest, declared)
}

// isFile tells whether m is one of Google's files, usable or not.
func isFile(m map[string]any) bool {
	_, web := m["web"].(map[string]any)
	_, installed := m["installed"].(map[string]any)
	return web || installed || m["type"] == "service_account" || foreign(m) != ""
}

// read takes m apart, which it may modify.
func read(m map[string]any, declared func(name string) bool) (File, error) {
	if what := foreign(m); what != "" {
		return File{}, wrongFile("", "this is "+what+"; expected the file of an OAuth client or of a service account")
	}
	if m["type"] == "service_account" {
		key := map[string]any{}
		for name, v := range m {
			// client_id is in both: beside a key it is the account's number.
			if serviceAccountFields[name] || !declared(name) {
				key[name] = v
				delete(m, name)
			}
		}
		text, err := json.Marshal(key)
		if err != nil {
			return File{}, wrongFile("", "the service account's key file holds something that is no JSON")
		}
		return File{ServiceAccount: string(text), Rest: m}, nil
	}
	var client map[string]any
	for _, sort := range []string{"web", "installed"} {
		wrapped, ok := m[sort].(map[string]any)
		if !ok {
			continue
		}
		if client != nil {
			return File{}, wrongFile(sort, "the file has a web and an installed client: which one?")
		}
		client = map[string]any{}
		for _, name := range []string{"client_id", "client_secret"} {
			if v, ok := wrapped[name]; ok {
				client[name] = v
			}
		}
		if client["client_id"] == nil {
			return File{}, wrongFile(sort, "has no client_id: is the file cut off?")
		}
		delete(m, sort)
	}
	return File{Client: client, Rest: m}, nil
}

// foreign names the product that a file of another kind is for, "" where it
// knows none. People have several files of Google's that look alike.
func foreign(m map[string]any) string {
	switch kind, _ := m["type"].(string); kind {
	case "authorized_user":
		return "a user's application default credentials, as gcloud writes them"
	case "external_account", "external_account_authorized_user":
		return "a workload identity federation's configuration"
	case "impersonated_service_account":
		return "a configuration for impersonating a service account"
	case "gdch_service_account":
		return "a service account's key of Google Distributed Cloud"
	}
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { _, ok := m[n]; return !ok })
	}
	switch {
	case has("apiKey", "authDomain"), has("apiKey", "projectId"):
		return "a Firebase web app's configuration"
	case has("project_info", "client"):
		return "a Firebase app's google-services.json"
	case has("refresh_token", "client_id") && has("token_uri"), has("token", "scopes"):
		return "a token file of Google's Python client"
	}
	return ""
}

// textOf returns a text in any of the forms in which imports carry one.
func textOf(v any) (string, bool) {
	switch s := v.(type) {
	case string:
		return s, true
	case providers.TextValue:
		return string(s), true
	}
	return "", false
}

func wrongFile(name, message string) error {
	pointer := "/params"
	if name != "" {
		pointer += "/" + name
	}
	return fault.New(fault.InvalidArgument, "the credentials file can't be imported").WithViolations(
		fault.Violation{Pointer: pointer, Code: "wrong_file", Message: message})
}

// Merge adds what a file brought to the flattened rest. Errors:
// fault.InvalidArgument when both give a name.
func Merge(flat, brought map[string]any) (map[string]any, error) {
	for _, name := range slices.Sorted(maps.Keys(brought)) {
		if _, twice := flat[name]; twice {
			return nil, wrongFile(name, "is given twice, once in the credentials file")
		}
		flat[name] = brought[name]
	}
	return flat, nil
}
