// Package graphmail is the kind microsoft_graph_mail: mail through Microsoft Graph
// as an account that a user connected.
//
// The kind is declared: kind.yaml beside this file says what it wants to know, how
// its tokens are minted and how it is tested, and package httpkind makes the
// provider of it. Its refresh tokens are replaced at every use.
package graphmail
