// Package s3 is the kind s3: a bucket of Amazon S3 or of a compatible store. It
// is the home of the AWS SDK.
//
// A decoded config flows in, the same config flows out as the backend. The
// connection test asks the bucket (HEAD), then, because an answer to HEAD has no
// body, asks again for one key (GET) to learn which key, signature, region or
// permission is wrong; deeper levels list, and write, read and delete a small
// object. The SDK signs and addresses the requests; what an answer means is
// judged from the answer itself, because compatible stores differ where the SDK
// expects Amazon.
//
// The SDK is set up by hand: no environment, shared files or metadata service
// ever lends a key, and every request goes through providers.Runtime, so through
// the operator's egress policy. Only static keys are known, with or without a
// session token: roles that are assumed need a param that the kind does not have.
// Nothing happens at activation and deactivation: a bucket keeps no state about
// its clients.
package s3
