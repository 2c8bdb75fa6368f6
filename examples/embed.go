package examples

import _ "embed"

// AcmeName is the name under which the bundled example is parsed and reported.
const AcmeName = "examples/acme.xml"

// Acme is the bundled example: two tenants, acme and globex.
//
//go:embed acme.xml
var Acme []byte

// AcmeVariables lists the environment variables that the bundled example names.
func AcmeVariables() []string {
	return []string{"S3_KEY", "S3_SECRET", "SMTP_PASSWORD", "GLOBEX_S3_KEY", "GLOBEX_S3_SECRET"}
}
