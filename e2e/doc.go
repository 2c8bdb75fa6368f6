// Package e2e holds the tests of the whole: the real binary as separate
// processes, against private real Postgres, Redis, Vault and S3 servers.
//
// What flows through it: a fleet of processes is configured as an operator does
// it (YAML file, environment, separate database roles, AppRoles of least right),
// and asked as an app asks (HTTP with a JWT). It has no code of its own.
package e2e
