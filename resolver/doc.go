// Package resolver answers the one question: for this tenant and organization,
// which backend is the default of this category, ready to use?
//
// A [Slot] flows in, an [Answer] comes out: from memory, else by one flight per
// slot through Redis (package rediscache), the database (a connector store) and
// Vault. The package also holds the coherence protocol of DESIGN 6: the change
// hub that listens, the relay that speaks, floors, freshness and staleness. It
// imports connector, providers, vault's contract, tenant and internal packages;
// it knows no HTTP and no SDK.
package resolver
