package connector

// RequestKey makes a request one that is carried out once (an Idempotency-Key).
type RequestKey struct {
	// Key is as the client sent it: 16 to 255 visible ASCII characters. It is kept
	// only as a hash.
	Key string
	// Digest tells whether the same is asked under the key again. It is keyed by
	// whoever made it, because a request holds secrets.
	Digest [32]byte
}
