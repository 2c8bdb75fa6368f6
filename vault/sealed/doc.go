// Package sealed is the embedded [vault.Store]: one AES-256-GCM file per bundle
// below a folder, and a key file beside them.
//
// It is what `dev` uses. Bundles flow in by an atomic, synced rename and out by
// a lock-free read. It imports vault (contract, paths, codec), connector,
// tenant and internal packages; the HashiCorp client is its neighbour, not its
// dependency.
//
// Not guaranteed: rotation of the key, protection from who can read the key
// file, notice of a file that somebody put back to an older state of the same
// place, and exclusion between processes on systems without flock.
package sealed
