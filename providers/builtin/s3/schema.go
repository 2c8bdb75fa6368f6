package s3

import "github.com/patchbay-dev/patchbay/providers"

func newSchema() *providers.Schema {
	return &providers.Schema{
		Kind:        "s3",
		Aliases:     []providers.Kind{"aws_s3"},
		Category:    providers.Storage,
		Label:       "Amazon S3 and compatible",
		Icon:        "bucket",
		Description: "Objects in a bucket of Amazon S3, MinIO, Cloudflare R2, Ceph and others that speak its protocol.",
		Docs:        "https://docs.aws.amazon.com/AmazonS3/latest/userguide/",
		Status:      providers.Stable,
		AuthModes:   []providers.AuthMode{{Name: "static", Label: "Access key"}},
		Egress: providers.Egress{
			Hosts: []string{"*.amazonaws.com"}, FromParams: []string{"endpoint"}, Ports: []int{443}, TLS: "optional",
		},
		Tests: []providers.TestLevel{
			{Level: providers.LevelReach, Label: "Reach the bucket with the key"},
			{Level: providers.LevelPermission, Label: "List the bucket"},
			{Level: providers.LevelWrite, Label: "Write, read and delete a small object", SideEffects: true},
		},
		Groups: []providers.Group{
			{Name: "bucket", Label: "Bucket"},
			{Name: "credentials", Label: "Credentials"},
			{Name: "advanced", Label: "Compatible stores", Collapsed: true},
		},
		Params: []providers.Param{
			{
				Name: "bucket", Type: providers.String, Required: true, Group: "bucket", Order: 10,
				Label: "Bucket", Help: "The bucket's name, or the ARN of an access point.",
				Example: "acme-prod", AffectsConnection: true, Validate: bucketName,
				DocURL: "https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html",
			},
			{
				Name: "region", Type: providers.String, Group: "bucket", Order: 20,
				Label: "Region", Help: "Where the bucket is. R2 wants auto; MinIO needs none.",
				Example: "us-east-1", AffectsConnection: true, Validate: regionName,
			},
			{
				Name: "prefix", Type: providers.String, Group: "bucket", Order: 30,
				Label: "Prefix", Help: "What all keys of this connector start with.", Example: "uploads/",
				// The limit of S3 keys, which are counted in bytes.
				Validate: providers.Validation{MaxLength: 1024},
			},
			{
				Name: "endpoint", Type: providers.URL, Group: "advanced", Order: 70, Advanced: true,
				Label: "Endpoint", Help: "The URL of a compatible store; empty for Amazon.",
				Example: "https://minio.example.com:9000", AffectsConnection: true,
				// Signed requests carry the session token, and an attacker's
				// endpoint could collect signatures.
				BindsSecrets: []string{"access_key_id", "secret_access_key", "session_token"},
			},
			{
				Name: "path_style", Type: providers.Bool, Group: "advanced", Order: 80, Advanced: true,
				Label: "Path-style addresses", Help: "https://host/bucket instead of https://bucket.host, as MinIO wants it.",
				AffectsConnection: true,
			},
		},
		Secrets: []providers.Param{
			{
				Name: "access_key_id", Aliases: []string{"access_key"}, Type: providers.String, Required: true,
				Group: "credentials", Order: 40, Label: "Access key id", AffectsConnection: true,
			},
			{
				Name: "secret_access_key", Aliases: []string{"secret_key"}, Type: providers.String, Required: true,
				Group: "credentials", Order: 50, Label: "Secret access key", AffectsConnection: true,
			},
			{
				Name: "session_token", Type: providers.String, Group: "credentials", Order: 60, Advanced: true,
				Label: "Session token", Help: "Of temporary credentials only. They end, and nothing renews them here.",
				AffectsConnection: true,
			},
		},
		Imports: []providers.ImportFormat{
			{Name: "nested", Label: "Nested or dotted keys"},
			{Name: "aws_cli_json", Label: "JSON of the AWS CLI", Hint: "What aws iam create-access-key or aws sts assume-role prints."},
			{Name: "minio_credentials_json", Label: "MinIO credentials.json", Hint: "The file that MinIO's console offers with a new access key."},
		},
		Version: 1,
	}
}

// bucketName is wider than Amazon's present rules: old buckets have capitals
// and underscores, compatible stores have rules of their own. It keeps out what
// would change the request's path or host.
var bucketName = providers.Validation{
	MinLength: 3, MaxLength: 255,
	Pattern:        `^(arn:[A-Za-z0-9:/._-]+|[A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])$`,
	PatternMessage: "must be a bucket's name (letters, digits, dots and hyphens) or an ARN",
}

// regionName has no dot and no slash: the region is a label of Amazon's host
// name (s3.<region>.amazonaws.com) and must not turn it into another host.
var regionName = providers.Validation{
	MaxLength:      64,
	Pattern:        `^[A-Za-z0-9_-]+$`,
	PatternMessage: "must be a region such as us-east-1 (letters, digits and hyphens)",
}
