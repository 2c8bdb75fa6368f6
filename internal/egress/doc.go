// Package egress is the one way from Patchbay to a host that a tenant typed: it
// resolves the name, judges every address found, and dials exactly the address
// that it judged. It imports package fault and nothing else of the project.
package egress
