package google

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/patchbay-dev/patchbay/providers"
)

// API makes requests to one of Google's JSON APIs with an access token.
type API struct {
	Runtime providers.Runtime
	Token   providers.Token
}

// Do sends a request and returns the answer if its status is 2xx. Otherwise ok
// is false and o is the step's outcome. body "" sends none.
func (a API) Do(ctx context.Context, method, url, body string) (r providers.Response, o providers.Outcome, ok bool) {
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, o, ok := providers.Request(ctx, method, url, reader)
	if !ok {
		return r, o, false
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+a.Token.Access.Reveal())
	r, o, ok = providers.Call(a.Runtime.Client(), req)
	if !ok {
		return r, o, false
	}
	if r.Status < 200 || r.Status > 299 {
		return r, Refused(r), false
	}
	return r, providers.Outcome{}, true
}

// reasons says what a reason in an error answer means. Google gives one in
// error.errors[].reason, and newer services another in error.details[].reason
// (https://developers.google.com/workspace/drive/api/guides/handle-errors,
// https://developers.google.com/workspace/gmail/api/guides/handle-errors,
// https://cloud.google.com/apis/design/errors).
var reasons = map[string]providers.Outcome{
	"insufficientPermissions":         providers.Failed(providers.CodeScopeMissing, ""),
	"ACCESS_TOKEN_SCOPE_INSUFFICIENT": providers.Failed(providers.CodeScopeMissing, ""),
	"accessNotConfigured":             providers.Failed(providers.CodeAPIDisabled, apiDisabled),
	"SERVICE_DISABLED":                providers.Failed(providers.CodeAPIDisabled, apiDisabled),
	"userRateLimitExceeded":           providers.Failed(providers.CodeRateLimited, ""),
	"rateLimitExceeded":               providers.Failed(providers.CodeRateLimited, ""),
	"RATE_LIMIT_EXCEEDED":             providers.Failed(providers.CodeRateLimited, ""),
	"dailyLimitExceeded":              providers.Failed(providers.CodeQuotaExceeded, "The Google Cloud project's quota for this API is used up for today."),
	"quotaExceeded":                   providers.Failed(providers.CodeQuotaExceeded, ""),
	"storageQuotaExceeded":            providers.Failed(providers.CodeQuotaExceeded, "The account's storage is full."),
	"domainPolicy":                    providers.Failed(providers.CodePermissionDenied, "The Google Workspace administrator has switched this service off, or blocks this app."),
	"insufficientFilePermissions":     providers.Failed(providers.CodePermissionDenied, "The account may not write here. Share the folder with it as an editor."),
	"appNotAuthorizedToFile":          providers.Failed(providers.CodeScopeMissing, "The granted scope covers only files that this app made or that were opened with it."),
}

const apiDisabled = "The API is not enabled in the Google Cloud project that the credentials belong to. Enable it there and wait a few minutes."

// Refused says what an answer that is not 2xx means.
func Refused(r providers.Response) providers.Outcome {
	if r.Status == http.StatusUnauthorized {
		return providers.Failed(providers.CodeAuthFailed,
			"Google refuses the access token: it was revoked, or the account was suspended. Connect the account again.")
	}
	// Google's front door answers HTML where no API does.
	var body struct {
		Error struct {
			Errors []struct {
				Reason string `json:"reason"`
			} `json:"errors"`
			Details []struct {
				Reason string `json:"reason"`
			} `json:"details"`
		} `json:"error"`
	}
	parsed := r.JSON(&body) == nil
	if r.Status < 500 && parsed {
		var given []string
		for _, d := range body.Error.Details {
			given = append(given, d.Reason)
		}
		for _, e := range body.Error.Errors {
			given = append(given, e.Reason)
		}
		for _, reason := range given {
			if o, known := reasons[reason]; known {
				if o.Code == providers.CodeRateLimited {
					r.Status = http.StatusTooManyRequests // with its Retry-After
					return providers.StatusOutcome(r)
				}
				return o
			}
		}
	}
	switch {
	case r.Status == http.StatusTooManyRequests, r.Status >= 500:
		return providers.StatusOutcome(r)
	case !parsed:
		return Unexpected()
	case r.Status == http.StatusForbidden:
		return providers.Failed(providers.CodePermissionDenied, "")
	case r.Status == http.StatusNotFound:
		return providers.Failed(providers.CodeNotFound, "")
	default:
		return providers.StatusOutcome(r)
	}
}

// Unexpected is the outcome of an answer that is not of the documented form.
func Unexpected() providers.Outcome { return providers.Failed(providers.CodeUnexpectedBody, "") }
