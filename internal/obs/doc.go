// Package obs is how Patchbay is observed: the JSON logger with its field
// names, request ids, and Prometheus metrics on a registry of their own.
//
// Events and counts flow in, lines and samples come out. Label values come from
// closed sets that are resolved when a metric is made: ids never become labels,
// and counting on the hot path allocates nothing. The package imports no other
// of the project, so that everything may import it.
package obs
