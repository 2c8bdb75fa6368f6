// Package sendgrid is the kind sendgrid: mail through Twilio SendGrid's v3 API.
//
// A decoded config flows in and out again as the backend: the app talks to
// SendGrid itself, with the API key. The connection test makes three kinds of
// requests over plain HTTP (scopes, and a message in sandbox mode); everything
// goes through the process' egress policy. It imports package providers and the
// helper that makes the test message.
package sendgrid
