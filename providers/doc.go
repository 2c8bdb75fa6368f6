// Package providers says what a connector can be: the [Provider] contract, the
// schema vocabulary that describes a kind's params, strict decoding against it,
// and the registry of kinds.
//
// Raw params and secrets flow in, a [Config] comes out of [Schema.Decode], and
// [Provider.Backend] turns it into the answer that apps receive. Providers know
// no tenant and no store. The package imports internal packages only; each kind
// lives in a folder of its own below builtin, and builtin is the visible list.
package providers
