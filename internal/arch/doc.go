// Package arch holds the shape of the code as tests: who may import whom, where
// each third-party SDK lives, and who may look inside a secret. Every rule
// carries its reason, which a failure prints.
//
// It has no code of its own and asks the go command about the rest.
package arch
