package importer

import "testing"

func TestPlaceholderNames(t *testing.T) {
	t.Parallel()
	names := placeholders{}
	for _, row := range []struct{ id, param, want string }{
		{"connector_acme_s3", "access_key_id", "CONNECTOR_ACME_S3_ACCESS_KEY_ID"},
		{"acme.mail-relay", "password", "ACME_MAIL_RELAY_PASSWORD"},
		{"acme/mail.relay", "password", "ACME_MAIL_RELAY_PASSWORD_2"},
		{"acme_mail", "relay_password", "ACME_MAIL_RELAY_PASSWORD_3"},
		{"café", "key", "CAF__KEY"},
		{"0198c3de", "password", "CONNECTOR_0198C3DE_PASSWORD"},
	} {
		if got := names.of(row.id, row.param); got != row.want {
			t.Errorf("%s %s: got %s, want %s", row.id, row.param, got, row.want)
		}
	}
}
