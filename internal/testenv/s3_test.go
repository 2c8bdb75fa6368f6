package testenv_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func TestS3RefusesWhatAmazonRefuses(t *testing.T) {
	t.Parallel()
	server := testenv.S3(t)
	for _, row := range []struct {
		name, key, secret, want string
	}{
		{"right keys", server.AccessKeyID, server.SecretAccessKey, ""},
		{"wrong secret", server.AccessKeyID, "wrong", "SignatureDoesNotMatch"},
		{"wrong key", "AKIANOBODY", server.SecretAccessKey, "InvalidAccessKeyId"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			client := s3.New(s3.Options{Region: server.Region, BaseEndpoint: aws.String(server.Endpoint), UsePathStyle: true,
				Credentials: credentials.NewStaticCredentialsProvider(row.key, row.secret, "")})
			_, err := client.ListBuckets(t.Context(), &s3.ListBucketsInput{})
			got := ""
			if api, ok := errors.AsType[smithy.APIError](err); ok {
				got = api.ErrorCode()
			}
			if got != row.want || (err == nil) != (row.want == "") {
				t.Errorf("list buckets: code %q (%v), want %q", got, err, row.want)
			}
		})
	}
}
