// Package secret holds types for values that must never be printed.
//
// [Value], [Map] and [Body] redact themselves under every way Go has of turning
// a value into text: String, GoString, Format, MarshalJSON, MarshalText,
// LogValue. The content sits behind a pointer that fmt doesn't follow, so that
// even its reflection over an unexported field of a foreign struct, under a verb
// that fits or not, prints an address at most.
// [Value.Reveal] and [Body.Reveal] are the only ways out; their call sites are
// a list that a test reviews.
//
// The package imports nothing of the project.
package secret
