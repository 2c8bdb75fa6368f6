// Package change is the part of a store that no database decides: the lock order
// of a transaction, what a record must be before it is written, what a write
// changed, and the spelling of values and history rows.
//
// Both stores write through it, so that one can't accept or spell what the other
// does not. It imports the contract, tenant and fault; it knows no SQL.
package change
