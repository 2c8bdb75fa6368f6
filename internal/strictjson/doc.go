// Package strictjson reads JSON bodies so that nothing in them is overlooked:
// unknown and duplicate keys, wrong types, numbers that don't fit and text that is
// no Unicode are errors, each at its JSON pointer, and none repeats a value.
//
// Bytes flow in, a Go struct comes out, or a fault with every problem at once. What
// the values mean is for whoever asked: a connector's params are judged by the
// schema of their kind. The package may import fault and secret.
package strictjson
