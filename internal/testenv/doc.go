// Package testenv finds, starts and stops the real servers that tests run
// against: Postgres, Redis, Vault, an S3 server, a mail server and PgBouncer.
//
// What flows through it: a test asks for a server and gets its address. A
// shared server (Postgres, Redis, Vault, S3, SMTP) is started once in a test
// process and hands out a database, a key prefix or a mount of its own to each
// test. A private one (NewPostgres, NewRedis, NewVault) belongs to one test,
// which may kill, stop, freeze and restart it on the same port and data.
//
// What has to happen within a time is measured by a Stopwatch, which leaves out
// what a busy machine took from the test itself.
//
// A package that uses it should have
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
// so that servers and data are gone at its end. Without it the servers still
// end with the process (the kernel sees to that), and the next run sweeps the
// data away.
//
// A missing server fails the test where CI is set and skips it elsewhere;
// `go run ./internal/testenv/setup` gets what is missing. Everything listens on
// loopback only and works as root and as an ordinary user.
//
// It may import pgx, to make databases; nothing else of the project. Only
// tests, bench and its own setup command may import it.
package testenv
