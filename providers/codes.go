package providers

import "slices"

// TestCode is the stable name of what a step of a connection test found. Pages,
// alerts and scripts match on it; a code keeps its meaning for good.
type TestCode string

// Fault says whose fault a finding is. A tenant's own is shown as an error of
// the connector; a vendor's outage is not, because nothing that the tenant
// could change would help.
type Fault string

// The faults.
const (
	FaultNone   Fault = ""       // ok, or a warning
	FaultConfig Fault = "config" // the tenant's: a param, a secret, a permission at the vendor
	FaultVendor Fault = "vendor" // the other side is down, overloaded or misbehaves
	FaultPolicy Fault = "policy" // the operator's: egress, limits
	FaultOurs   Fault = "ours"   // Patchbay's own
)

// The codes, by where they come up.
const (
	// Reaching the host.

	CodeHostNotFound       TestCode = "host_not_found"
	CodeEgressDenied       TestCode = "egress_denied"
	CodeConnectionRefused  TestCode = "connection_refused"
	CodeConnectionReset    TestCode = "connection_reset"
	CodeNetworkUnreachable TestCode = "network_unreachable"
	CodeTimeout            TestCode = "timeout"

	// TLS.

	CodeTLSWrongMode       TestCode = "tls_wrong_mode" // TLS met plain text, or the reverse
	CodeTLSFailed          TestCode = "tls_failed"
	CodeCertificateExpired TestCode = "certificate_expired"
	CodeCertificateName    TestCode = "certificate_name_mismatch"
	CodeCertificateUnknown TestCode = "certificate_unknown_authority"
	CodeStartTLSMissing    TestCode = "starttls_missing"
	CodeEncryptionRequired TestCode = "encryption_required"
	CodeUnencrypted        TestCode = "unencrypted"

	// What the other side said.

	CodeProtocolError    TestCode = "protocol_error" // garbage, another service
	CodeTooLarge         TestCode = "response_too_large"
	CodeRedirected       TestCode = "redirected"
	CodeUnexpectedStatus TestCode = "unexpected_status"
	CodeUnexpectedBody   TestCode = "unexpected_body"
	CodeRateLimited      TestCode = "rate_limited"
	CodeVendorError      TestCode = "vendor_error" // 5xx, 421, 454
	CodeQuotaExceeded    TestCode = "quota_exceeded"

	// Who we are.

	CodeAuthFailed          TestCode = "auth_failed"
	CodeAuthRequired        TestCode = "auth_required"
	CodeAuthNotOffered      TestCode = "auth_not_offered"
	CodeAuthMethodMissing   TestCode = "auth_method_not_offered"
	CodeNotAuthenticated    TestCode = "not_authenticated" // a warning: nothing was proved
	CodeAppPasswordRequired TestCode = "app_password_required"
	CodeKeyUnknown          TestCode = "key_unknown"
	CodeSignatureMismatch   TestCode = "signature_mismatch"
	CodeCredentialsExpired  TestCode = "credentials_expired"
	CodeClockSkew           TestCode = "clock_skew"
	CodeAddressNotAllowed   TestCode = "address_not_allowed" // the vendor's own allow-list
	CodeKeyMalformed        TestCode = "key_malformed"
	CodeSendingKey          TestCode = "sending_key" // can send, can't be checked

	// What we may do.

	CodePermissionDenied TestCode = "permission_denied"
	CodeScopeMissing     TestCode = "scope_missing"
	CodeWrongRegion      TestCode = "wrong_region"
	CodeBucketNotFound   TestCode = "bucket_not_found"
	CodeDomainNotFound   TestCode = "domain_not_found"
	CodeDomainInactive   TestCode = "domain_inactive"
	CodeFolderNotFound   TestCode = "folder_not_found"
	CodeNoStorageQuota   TestCode = "no_storage_quota"
	CodeNotFound         TestCode = "not_found"
	CodeSenderRefused    TestCode = "sender_refused"
	CodeSenderMismatch   TestCode = "sender_mismatch"
	CodeSenderMissing    TestCode = "sender_missing"
	CodeRecipientRefused TestCode = "recipient_refused"
	CodeRelayDenied      TestCode = "relay_denied"
	CodeMessageRefused   TestCode = "message_refused"
	CodeHELORefused      TestCode = "helo_refused"
	CodeTracesLeft       TestCode = "traces_left" // a warning: the probe could not be removed
	CodeAPIDisabled      TestCode = "api_disabled"
	CodeWrongProduct     TestCode = "wrong_product" // the address or key is of another service

	// OAuth2.

	CodeConsentMissing       TestCode = "consent_missing" // nobody has connected the account yet
	CodeSaveFirst            TestCode = "save_first"      // a changed client of a connected account
	CodeNeedsReauthorization TestCode = "needs_reauthorization"
	CodeOAuthClientInvalid   TestCode = "oauth_client_invalid"
	CodeOAuthRefused         TestCode = "oauth_refused" // another 4xx of the token endpoint
	CodeTokenEndpointDown    TestCode = "token_endpoint_unavailable"

	// Here.

	CodeConfigIncomplete TestCode = "config_incomplete"
	CodeNoNetwork        TestCode = "no_network" // this process gives its kinds no way out
	CodeStorageDown      TestCode = "grant_store_unavailable"
	CodeCancelled        TestCode = "cancelled"
	CodeInternal         TestCode = "internal"
)

// CodeInfo is what is said about a code where nothing more precise is known.
type CodeInfo struct {
	Code  TestCode `json:"code"`
	Fault Fault    `json:"fault,omitempty"`
	Hint  string   `json:"hint"`
}

// codes holds every code once; TestCodes and the generated documentation read it.
var codes = []CodeInfo{
	{CodeHostNotFound, FaultConfig, "No such host name. Check its spelling."},
	{CodeEgressDenied, FaultPolicy, "This address is not open to connectors. The operator can allow it (egress.allow)."},
	{CodeConnectionRefused, FaultConfig, "Nothing listens at this address and port."},
	{CodeConnectionReset, FaultVendor, "The other side closed the connection."},
	{CodeNetworkUnreachable, FaultVendor, "There is no way to this address just now."},
	{CodeTimeout, FaultVendor, "No answer in time. A firewall, a wrong port or an overloaded server does that."},
	{CodeTLSWrongMode, FaultConfig, "One side speaks TLS and the other doesn't. Choose the other encryption mode."},
	{CodeTLSFailed, FaultConfig, "The two sides could not agree on TLS."},
	{CodeCertificateExpired, FaultConfig, "The server's certificate has expired or is not valid yet."},
	{CodeCertificateName, FaultConfig, "The server's certificate is for another host name."},
	{CodeCertificateUnknown, FaultConfig, "Nobody we trust has signed the server's certificate."},
	{CodeStartTLSMissing, FaultConfig, "The server offers no STARTTLS on this port."},
	{CodeEncryptionRequired, FaultConfig, "The server wants encryption first. Choose STARTTLS or TLS."},
	{CodeUnencrypted, FaultNone, "The connection is not encrypted."},
	{CodeProtocolError, FaultConfig, "What answers here speaks something else. Check host and port."},
	{CodeTooLarge, FaultVendor, "The answer was larger than any such answer should be."},
	{CodeRedirected, FaultConfig, "The address redirects elsewhere, and no credential is sent along. Enter the final address."},
	{CodeUnexpectedStatus, FaultVendor, "The server answered with an unexpected status."},
	{CodeUnexpectedBody, FaultVendor, "The server's answer is not of the documented form."},
	{CodeRateLimited, FaultVendor, "The vendor limits our requests just now. Try again later."},
	{CodeVendorError, FaultVendor, "The vendor reports a temporary fault on its side. Try again later."},
	{CodeQuotaExceeded, FaultConfig, "The account's quota is used up."},
	{CodeAuthFailed, FaultConfig, "The credentials are refused."},
	{CodeAuthRequired, FaultConfig, "The server asks for credentials."},
	{CodeAuthNotOffered, FaultNone, "A password is set, but the server offers no authentication here: it was not tried."},
	{CodeAuthMethodMissing, FaultConfig, "The server does not offer the chosen way to authenticate."},
	{CodeNotAuthenticated, FaultNone, "Nothing was authenticated, so no credential was checked."},
	{CodeAppPasswordRequired, FaultConfig, "This account wants an app password instead of its own."},
	{CodeKeyUnknown, FaultConfig, "The vendor does not know this key."},
	{CodeSignatureMismatch, FaultConfig, "The key's secret is wrong."},
	{CodeCredentialsExpired, FaultConfig, "The credentials have expired."},
	{CodeClockSkew, FaultOurs, "The clocks of the two sides differ too much."},
	{CodeAddressNotAllowed, FaultConfig, "The vendor does not accept requests from our address. Add it to the account's allow-list."},
	{CodeKeyMalformed, FaultNone, "The key does not look like one of this vendor's."},
	{CodeSendingKey, FaultConfig, "This key can send but not be checked. Say that it is a sending key."},
	{CodePermissionDenied, FaultConfig, "The credentials are right but lack a permission."},
	{CodeScopeMissing, FaultConfig, "The granted scopes don't cover what is needed."},
	{CodeWrongRegion, FaultConfig, "It is in another region."},
	{CodeBucketNotFound, FaultConfig, "There is no such bucket."},
	{CodeDomainNotFound, FaultConfig, "The account has no such domain."},
	{CodeDomainInactive, FaultConfig, "The domain is not verified or is disabled at the vendor."},
	{CodeFolderNotFound, FaultConfig, "The folder doesn't exist or isn't shared with this account."},
	{CodeNoStorageQuota, FaultConfig, "A service account has no storage of its own. Use a shared drive or delegation."},
	{CodeNotFound, FaultConfig, "The vendor knows nothing of this name."},
	{CodeSenderRefused, FaultConfig, "The server refuses this sender."},
	{CodeSenderMismatch, FaultConfig, "The account's address is not the configured sender."},
	{CodeSenderMissing, FaultConfig, "This step needs a sender address."},
	{CodeRecipientRefused, FaultConfig, "The server refuses the recipient."},
	{CodeRelayDenied, FaultConfig, "The server does not relay for us."},
	{CodeMessageRefused, FaultConfig, "The server refuses the message."},
	{CodeHELORefused, FaultConfig, "The server refuses the host name that we introduce ourselves with. Set the EHLO name."},
	{CodeTracesLeft, FaultNone, "What the test wrote could not be removed again."},
	{CodeAPIDisabled, FaultConfig, "The API is not enabled in the vendor's project."},
	{CodeWrongProduct, FaultConfig, "This belongs to another product."},
	{CodeConsentMissing, FaultConfig, "Nobody has connected an account yet. Choose Connect."},
	{CodeSaveFirst, FaultConfig, "A changed client secret of a connected account is tested once it is saved. Save, then test."},
	{CodeNeedsReauthorization, FaultConfig, "The account's consent has ended. Connect it again."},
	{CodeOAuthClientInvalid, FaultConfig, "The client id or client secret of the OAuth2 app is refused."},
	{CodeOAuthRefused, FaultConfig, "The token endpoint refuses the request."},
	{CodeTokenEndpointDown, FaultVendor, "The token endpoint does not answer as it should. Try again later."},
	{CodeConfigIncomplete, FaultConfig, "The config is not complete."},
	{CodeNoNetwork, FaultOurs, "Connection tests are not available in this process."},
	{CodeStorageDown, FaultOurs, "The stored consent could not be read just now."},
	{CodeCancelled, FaultOurs, "The test was called off."},
	{CodeInternal, FaultOurs, "The test failed for a reason of our own, which is logged."},
}

// TestCodes lists every code with its fault and general hint, in the order of
// the documentation.
func TestCodes() []CodeInfo { return slices.Clone(codes) }

// Info returns what is known about the code; a code that is not in the list (a
// custom kind's own) counts as the tenant's fault and has no hint.
func (c TestCode) Info() CodeInfo {
	for _, i := range codes {
		if i.Code == c {
			return i
		}
	}
	return CodeInfo{Code: c, Fault: FaultConfig}
}

// Fault tells whose fault the code stands for.
func (c TestCode) Fault() Fault { return c.Info().Fault }
