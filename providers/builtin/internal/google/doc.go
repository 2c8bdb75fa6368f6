// Package google is what the kinds of Google's APIs share: where its OAuth2
// endpoints are, what its error answers mean, and how its credentials files are
// read.
//
// A vendor's file or answer flows in; params, a service account or a test
// step's outcome flows out. It imports package providers, dials nobody itself
// (requests go through the providers.Runtime it is given), and knows no kind's
// params: which file suits which kind is said in the kind's own package.
package google
