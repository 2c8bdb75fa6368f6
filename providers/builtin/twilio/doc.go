// Package twilio is the kind twilio: SMS and other messages through a Twilio
// account, with its auth token or an API key.
//
// The kind is declared: kind.yaml beside this file says what it wants to know and
// how it is tested, and package httpkind makes the provider of it. The two sorts
// of credentials may ask for different things, which decides what the connection
// test asks for.
package twilio
