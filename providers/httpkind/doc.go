// Package httpkind makes kinds out of YAML files: what a vendor's API needs to be
// configured and tested is declared, and no Go is written.
//
// A file flows in ([Parse], or [LoadDir] for a folder of the operator's); a
// provider like any other comes out, or a list of problems with file, line and
// column. The file's template language substitutes and nothing else, so that a
// value can't become code, a header or another host: see docs/provider-guide.md
// for the vocabulary. What a declared kind sends goes through the
// providers.Runtime it is bound to.
//
// The package imports package providers and knows no kind by name: those that
// Patchbay brings along are folders below providers/builtin.
package httpkind
