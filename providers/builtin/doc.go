// Package builtin is the one visible list of the kinds that Patchbay brings
// along. Each kind is a package below this one, which imports package providers
// and nothing of its siblings; what several need is below internal.
package builtin
