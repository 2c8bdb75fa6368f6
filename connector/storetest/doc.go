// Package storetest is the suite that every [connector.Store] passes.
//
// A store's tests call [Run] with a way to make fresh stores. Each obligation
// of the contract's comments has a case here, so that the embedded store is a
// fake that can be trusted and the real one can be replaced. Only what the
// contract promises is asserted; what a store does with its own tables (raw
// constraints, crash safety) is tested beside that store.
//
// The package imports the contract and what the contract names, and no store.
package storetest
