package testenv

// Part is one program that the tests need. Setup works through Parts.
type Part struct {
	Name string
	// Debian is the package that brings it; "" where there is none.
	Debian string
	// Find returns where it is, or an error that is errors.Is ErrMissing.
	Find func() (string, error)
	// Build makes it when it is missing; nil where it can't be built. It may
	// take minutes and runs once, however many processes ask.
	Build func() (string, error)
}

// Parts lists everything that the tests run against, in the order of need.
func Parts() []Part {
	return []Part{
		{Name: "PostgreSQL", Debian: "postgresql", Find: FindPostgres},
		{Name: "Redis", Debian: "redis-server", Find: func() (string, error) { return find("redis-server") }},
		{Name: "PgBouncer", Debian: "pgbouncer", Find: func() (string, error) { return find("pgbouncer") }},
		// A test that restarts Vault needs this build even where a vault is
		// installed, so it isn't looked up on PATH.
		{Name: "Vault", Find: builtVault, Build: buildVault},
		{Name: "S3 server", Find: findVersityGateway, Build: buildVersityGateway},
		{Name: "Mail server", Find: findMailpit, Build: buildMailpit},
	}
}
