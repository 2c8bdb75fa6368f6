package gdrive

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"github.com/patchbay-dev/patchbay/providers"
	"github.com/patchbay-dev/patchbay/providers/builtin/internal/google"
)

// probeName is the name of the file that level 3 makes.
const probeName = "patchbay-connection-test"

// folderType is the MIME type of folders.
const folderType = "application/vnd.google-apps.folder"

// TestConnection gets a token and asks whose it is; looks whether files can be
// put into the folder or drive, and whether there is room for them; and makes
// and deletes an empty file.
func (p *Provider) TestConnection(ctx context.Context, c providers.Config, o providers.TestOptions) (providers.TestReport, error) {
	t := providers.NewTest(ctx, c, o)
	d := drive{
		API: google.API{Runtime: p.rt}, folder: c.Text("folder_id"), drive: c.Text("drive_id"),
		account: c.Text("auth") == ServiceAccount, delegated: c.Text("subject") != "",
	}
	if d.account {
		t.Step("key", func(context.Context) providers.Outcome { return checkKey(c) })
	}
	t.Step("token", func(ctx context.Context) providers.Outcome {
		if d.account && c.Tokens == nil {
			// There is nothing to connect, which is what the general code would say.
			return providers.Failed(providers.CodeNoNetwork, "This process mints no tokens for service accounts.")
		}
		var err error
		d.Token, err = c.Token(ctx)
		return tokenOutcome(err, d)
	})
	t.Step("account", d.about)
	if t.Level() >= providers.LevelPermission {
		t.Step("scopes", func(context.Context) providers.Outcome { return d.mayWrite() })
		if d.drive != "" {
			t.Step("drive", d.lookAtDrive)
		}
		if d.folder != "" {
			t.Step("folder", d.lookAtFolder)
		}
		t.Step("quota", func(context.Context) providers.Outcome { return d.room() })
	}
	if t.Level() >= providers.LevelWrite {
		var id string
		t.Step("write", func(ctx context.Context) (out providers.Outcome) {
			id, out = d.create(ctx)
			return out
		})
		if id != "" {
			t.Cleanup("delete", func(ctx context.Context) providers.Outcome { return d.remove(ctx, id) })
		}
	}
	return t.Report("Connected"), nil
}

// checkKey judges the service account's key file, before anything is signed with
// it.
func checkKey(c providers.Config) providers.Outcome {
	a, problem := google.ReadServiceAccount(c.Secrets["service_account_json"])
	if problem == nil {
		problem = a.CheckKey()
	}
	switch {
	case problem != nil:
		return problem.Outcome()
	case a.Elsewhere:
		return providers.Warned(providers.CodeKeyMalformed,
			"The key file names a token address that is not Google's. It is ignored: signed requests go to Google only.")
	default:
		return providers.Good()
	}
}

// tokenOutcome says what a refusal means for a delegated service account:
// unauthorized_client is most often a delegation that nobody allowed
// (https://developers.google.com/identity/protocols/oauth2/service-account#jwterrorcodes).
func tokenOutcome(err error, d drive) providers.Outcome {
	o := providers.TokenOutcome(err)
	if d.account && o.Status == providers.StepFail {
		switch {
		case (o.Code == providers.CodeOAuthClientInvalid || o.Code == providers.CodeOAuthRefused) && d.delegated:
			o.Hint = "Google refuses to let the service account act for this user. A Workspace administrator has to allow domain-wide delegation for the account's client id and the scope " + scopeDrive + "."
		case o.Code == providers.CodeOAuthClientInvalid, o.Code == providers.CodeNeedsReauthorization, o.Code == providers.CodeOAuthRefused:
			o.Hint = "Google refuses the service account: it or its key was deleted or disabled, or our clock is wrong."
		}
	}
	return o
}

// drive is Google Drive as one config sees it.
type drive struct {
	google.API
	folder, drive      string
	account, delegated bool
	// What the steps learn.
	shared bool // files go into a shared drive
	quota  struct {
		Limit string `json:"limit"` // absent where it is unlimited
		Usage string `json:"usage"`
	}
}

// at is the URL of a path below the API, with a query of names and values in
// turn.
func (d *drive) at(path string, query ...string) string {
	q := url.Values{}
	for i := 0; i+1 < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	return d.Runtime.Endpoint(kind, "api", "https://www.googleapis.com") + "/drive/v3/" + path + "?" + q.Encode()
}

// about asks whose the token is. fields is mandatory
// (https://developers.google.com/workspace/drive/api/reference/rest/v3/about/get).
func (d *drive) about(ctx context.Context) providers.Outcome {
	r, o, ok := d.Do(ctx, http.MethodGet, d.at("about", "fields", "user,storageQuota"), "")
	if !ok {
		return d.refused(o)
	}
	var body struct {
		User *struct {
			Email string `json:"emailAddress"`
			Name  string `json:"displayName"`
		} `json:"user"`
		Quota *struct {
			Limit string `json:"limit"`
			Usage string `json:"usage"`
		} `json:"storageQuota"`
	}
	if r.JSON(&body) != nil || body.User == nil || body.User.Email+body.User.Name == "" {
		return google.Unexpected()
	}
	if body.Quota != nil {
		d.quota.Limit, d.quota.Usage = body.Quota.Limit, body.Quota.Usage
	}
	if body.User.Email == "" {
		return providers.Good()
	}
	return providers.Goodf("Connected as %s.", providers.Quote(body.User.Email))
}

// refused sharpens what Google's refusals mean for a service account.
func (d *drive) refused(o providers.Outcome) providers.Outcome {
	if d.account && o.Code == providers.CodeAuthFailed {
		o.Hint = "Google refuses the service account's token: the account or its key was deleted or disabled."
	}
	return o
}

// mayWrite looks for a scope that can write, where the issuer said what it
// granted.
func (d *drive) mayWrite() providers.Outcome {
	switch {
	case d.Token.Scopes == nil:
		return providers.Skipped("Google did not say which scopes were granted.")
	case slices.Contains(d.Token.Scopes, scopeDrive), d.onlyOwnFiles():
		return providers.Good()
	default:
		return providers.Failed(providers.CodeScopeMissing, "The consent does not include writing files. Connect again and leave that box ticked.")
	}
}

func (d *drive) onlyOwnFiles() bool {
	return slices.Contains(d.Token.Scopes, scopeFile) && !slices.Contains(d.Token.Scopes, scopeDrive)
}

// lookAtDrive asks for the shared drive
// (https://developers.google.com/workspace/drive/api/reference/rest/v3/drives/get).
func (d *drive) lookAtDrive(ctx context.Context) providers.Outcome {
	r, o, ok := d.Do(ctx, http.MethodGet, d.at("drives/"+url.PathEscape(d.drive), "fields", "id,capabilities/canAddChildren"), "")
	switch {
	case !ok && o.Code == providers.CodeNotFound:
		return d.missing("shared drive")
	case !ok:
		return d.refused(o)
	}
	var body struct {
		ID           string `json:"id"`
		Capabilities *struct {
			CanAddChildren bool `json:"canAddChildren"`
		} `json:"capabilities"`
	}
	if r.JSON(&body) != nil || body.ID == "" || body.Capabilities == nil {
		return google.Unexpected()
	}
	d.shared = true
	// In a folder of the drive the account may have more rights than at its top.
	if d.folder == "" && !body.Capabilities.CanAddChildren {
		return providers.Failed(providers.CodePermissionDenied, "The account may see the shared drive but not add files to it. Make it a contributor or more.")
	}
	return providers.Good()
}

// lookAtFolder asks for the folder. Without supportsAllDrives a folder of a
// shared drive is not found
// (https://developers.google.com/workspace/drive/api/reference/rest/v3/files/get).
func (d *drive) lookAtFolder(ctx context.Context) providers.Outcome {
	r, o, ok := d.Do(ctx, http.MethodGet, d.at("files/"+url.PathEscape(d.folder),
		"supportsAllDrives", "true", "fields", "id,mimeType,trashed,driveId,capabilities/canAddChildren"), "")
	switch {
	case !ok && o.Code == providers.CodeNotFound:
		return d.missing("folder")
	case !ok:
		return d.refused(o)
	}
	var body struct {
		ID           string `json:"id"`
		Type         string `json:"mimeType"`
		Trashed      bool   `json:"trashed"`
		Drive        string `json:"driveId"`
		Capabilities *struct {
			CanAddChildren bool `json:"canAddChildren"`
		} `json:"capabilities"`
	}
	if r.JSON(&body) != nil || body.ID == "" || body.Type == "" || body.Capabilities == nil {
		return google.Unexpected()
	}
	d.shared = body.Drive != ""
	switch {
	case body.Type != folderType:
		return providers.Failed(providers.CodeFolderNotFound, "The id is that of a file, not of a folder.")
	case body.Trashed:
		return providers.Failed(providers.CodeFolderNotFound, "The folder is in the trash, from which it is deleted after 30 days.")
	case d.drive != "" && body.Drive == "":
		return providers.Failed(providers.CodeFolderNotFound, "The folder is not in the shared drive but in somebody's own.").
			WithFix("Clear the shared drive", map[string]any{"drive_id": nil})
	case d.drive != "" && body.Drive != d.drive:
		return providers.Failed(providers.CodeFolderNotFound, "The folder is in another shared drive.").
			WithFix("Use the folder's shared drive", map[string]any{"drive_id": body.Drive})
	case !body.Capabilities.CanAddChildren:
		return providers.Failed(providers.CodePermissionDenied, "The account may see the folder but not add files to it. Share it with the account as an editor.")
	default:
		return providers.Good()
	}
}

// missing lists the reasons for a 404, which is all that Google says to any of
// them (https://developers.google.com/workspace/drive/api/guides/handle-errors).
func (d *drive) missing(what string) providers.Outcome {
	hint := "The account can't see this " + what + ": the id is wrong, the " + what + " was deleted, or it isn't shared with the account."
	switch {
	case d.onlyOwnFiles():
		hint += " Its consent covers only files that this app made (drive.file), which is reason enough: connect again for full access."
	case d.account && !d.delegated:
		hint += " Share it with the service account's own address."
	}
	return providers.Failed(providers.CodeFolderNotFound, hint)
}

// room looks whether the account can own a file. A service account can't: it has
// no storage, though everything up to the upload works
// (https://developers.google.com/workspace/drive/api/guides/about-shareddrives).
func (d *drive) room() providers.Outcome {
	switch {
	case d.shared:
		return providers.Good()
	case d.account && !d.delegated:
		return noStorage()
	case d.quota.Limit == "0":
		return providers.Failed(providers.CodeNoStorageQuota, "The account has no storage. Use a shared drive or another account.")
	case d.quota.Limit != "" && atLeast(d.quota.Usage, d.quota.Limit):
		return providers.Failed(providers.CodeQuotaExceeded, "The account's storage is full.")
	default:
		return providers.Good()
	}
}

func noStorage() providers.Outcome {
	return providers.Failed(providers.CodeNoStorageQuota,
		"A service account has no storage of its own, so that uploads fail though everything else works. Use a folder in a shared drive, or let it act for a user.")
}

// atLeast compares two whole numbers, which Google writes as text.
func atLeast(a, b string) bool {
	if len(a) != len(b) {
		return len(a) > len(b)
	}
	return a >= b
}

// create makes an empty file, which metadata alone does
// (https://developers.google.com/workspace/drive/api/reference/rest/v3/files/create).
func (d *drive) create(ctx context.Context) (id string, o providers.Outcome) {
	file := map[string]any{"name": probeName, "mimeType": "text/plain", "description": "Made by a connection test. It can be deleted."}
	if parent := d.parent(); parent != "" {
		file["parents"] = []string{parent}
	}
	body, err := json.Marshal(file)
	if err != nil {
		return "", providers.Failed(providers.CodeInternal, "")
	}
	r, o, ok := d.Do(ctx, http.MethodPost, d.at("files", "supportsAllDrives", "true", "fields", "id"), string(body))
	switch {
	case !ok && o.Code == providers.CodeQuotaExceeded && d.account && !d.delegated && !d.shared:
		return "", noStorage()
	case !ok && o.Code == providers.CodeNotFound:
		return "", d.missing("folder")
	case !ok && r.Status == 0:
		// Lost on the way there or on the way back: nobody can say.
		o.Hint = o.Code.Info().Hint + " The file \"" + probeName + "\" may have been made all the same."
		return "", o
	case !ok:
		return "", d.refused(o)
	}
	var made struct {
		ID string `json:"id"`
	}
	if r.JSON(&made) != nil || made.ID == "" {
		return "", google.Unexpected()
	}
	return made.ID, providers.Good()
}

// parent is the folder that files go to: a shared drive's top has the drive's
// own id. "" is the top of the account's drive.
func (d *drive) parent() string {
	if d.folder != "" {
		return d.folder
	}
	return d.drive
}

// remove deletes the file. In a shared drive only a manager may delete for good,
// and who may add files may not even throw them away
// (https://developers.google.com/workspace/drive/api/guides/delete).
func (d *drive) remove(ctx context.Context, id string) providers.Outcome {
	file := "files/" + url.PathEscape(id)
	if _, _, ok := d.Do(ctx, http.MethodDelete, d.at(file, "supportsAllDrives", "true"), ""); ok {
		return providers.Good()
	}
	if _, _, ok := d.Do(ctx, http.MethodPatch, d.at(file, "supportsAllDrives", "true", "fields", "id"), `{"trashed":true}`); ok {
		return providers.Warned(providers.CodeTracesLeft, "The test's empty file is in the trash: the account may not delete for good, which uploads don't need.")
	}
	return providers.Warned(providers.CodeTracesLeft, "The test's empty file \""+probeName+"\" could not be removed: the account may not delete.")
}
