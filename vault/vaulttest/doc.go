// Package vaulttest is the suite that every [vault.Store] passes.
//
// A harness opens fresh, empty stores; [Run] drives them through the contract.
// Only tests import it. It imports vault, connector, tenant and internal packages.
package vaulttest
