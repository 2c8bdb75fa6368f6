// Package examples embeds the bundled example data file, which "sidecar dev"
// imports on its first start. The other files here are for people. It imports
// nothing of the project.
package examples
