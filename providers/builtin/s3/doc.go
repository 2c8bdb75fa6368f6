// Package s3 is the kind s3: a bucket of Amazon S3 or of a compatible store.
//
// A decoded config flows in, the same config flows out as the backend. The
// connection test is not part of the package yet: providers.Base reports it as
// skipped.
package s3
