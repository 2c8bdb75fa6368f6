// Package e2e holds the tests of the whole: the real binary as separate
// processes, against private real Postgres, Redis, Vault and S3 servers.
//
// What flows through it: a fleet of processes is configured as an operator does
// it (YAML file, environment, separate database roles, AppRoles of least right),
// and asked as an app asks (HTTP with a JWT). Most tests write a pair, a bucket
// and a secret of the same number, so that each answer tells by itself whether it
// is a mix and how old it is, and judge it by what its Age claims: such a judgement
// holds on a busy machine too. Gates before real servers count, refuse and set
// the moment of a kill. OAuth2 issuers run in the test's own process, which also
// plays the user who consents and the control plane behind the consent. The
// package has no code of its own and may import internal/testenv,
// tenant/tenanttest, what an app would, and what a control plane stores with
// (connector, vault, providers).
package e2e
