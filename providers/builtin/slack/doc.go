// Package slack is the kind slack: messages as the bot of a Slack app.
//
// The kind is declared: kind.yaml beside this file says what it wants to know and
// how it is tested, and package httpkind makes the provider of it. Slack answers
// nearly every refusal with status 200; what its error codes mean is in the file,
// and each is a trap in the package's test.
package slack
