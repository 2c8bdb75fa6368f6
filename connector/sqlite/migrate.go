package sqlite

import (
	"context"
	"embed"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"

	"github.com/patchbay-dev/patchbay/internal/fault"
)

//go:embed migrations/*.sql
var migrations embed.FS

// prepare proves that the file is ours and can be written, and migrates it.
func (s *Store) prepare(ctx context.Context, path string, log *slog.Logger) error {
	refuse := func(err error) error {
		if err = s.classify(ctx, err); fault.CodeOf(err) == fault.Internal {
			return fault.Newf(fault.Conflict, "%s is not a store file of this program", path).WithCause(err)
		}
		return fault.Newf(fault.CodeOf(err), "the store file %s cannot be opened: %s", path, fault.Message(err)).WithCause(err)
	}
	// A write lock, because SQLite falls back to reading in silence and would
	// fail at the first write only.
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return refuse(err)
	}
	if err := tx.Rollback(); err != nil {
		return refuse(err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return refuse(err)
	}
	p, err := goose.NewProvider(goose.DialectSQLite3, s.write, files, goose.WithSlog(log), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return refuse(err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return refuse(err)
	}
	if have > want {
		return fault.Newf(fault.Conflict,
			"the store file %s is of schema version %d, and this program knows up to %d: use a newer one", path, have, want)
	}
	if _, err := p.Up(ctx); err != nil {
		return refuse(err)
	}
	return nil
}
