-- +goose Up

-- SQLite can't change a table's constraints, so two are written anew. Neither is
-- referred to by another table.
CREATE TABLE connector_params_next (
    tenant_id      TEXT NOT NULL,
    connector_id   TEXT NOT NULL,
    name           TEXT NOT NULL CHECK (name <> ''),
    value          TEXT CHECK (json_valid(value)),
    imported       TEXT CHECK (json_valid(imported)),
    secret_version INTEGER CHECK (secret_version >= 1),
    writer         TEXT NOT NULL CHECK (writer IN ('api', 'import')),
    updated_at     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, name),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT connector_params_value_or_secret CHECK (value IS NULL OR secret_version IS NULL),
    CONSTRAINT connector_params_secret_not_imported CHECK (secret_version IS NULL OR imported IS NULL),
    -- A param that was cleared keeps what its last import brought, so that the
    -- same file does not bring it back.
    CONSTRAINT connector_params_holds_something
        CHECK (value IS NOT NULL OR secret_version IS NOT NULL OR imported IS NOT NULL)
) STRICT, WITHOUT ROWID;
INSERT INTO connector_params_next (tenant_id, connector_id, name, value, imported, secret_version, writer, updated_at)
    SELECT tenant_id, connector_id, name, value, imported, secret_version, writer, updated_at FROM connector_params;
DROP TABLE connector_params;
ALTER TABLE connector_params_next RENAME TO connector_params;

CREATE TABLE oauth_grants_next (
    tenant_id     TEXT NOT NULL,
    connector_id  TEXT NOT NULL,
    owner         TEXT CHECK (owner <> ''),
    epoch         INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    until         INTEGER,
    grant_version INTEGER NOT NULL DEFAULT 0 CHECK (grant_version >= 0),
    status        TEXT NOT NULL CHECK (status IN ('active', 'needs_reauthorization')),
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, connector_id),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE,
    CHECK ((owner IS NULL) = (until IS NULL))
) STRICT;
INSERT INTO oauth_grants_next (tenant_id, connector_id, owner, epoch, until, grant_version, status, updated_at)
    SELECT tenant_id, connector_id, owner, epoch, until, grant_version, status, updated_at FROM oauth_grants;
DROP TABLE oauth_grants;
ALTER TABLE oauth_grants_next RENAME TO oauth_grants;

-- Both fence off what is known to be past, so neither ever goes back: not by a
-- statement that forgets to compare either.
-- +goose StatementBegin
CREATE TRIGGER oauth_grants_monotonic BEFORE UPDATE OF epoch, grant_version ON oauth_grants
WHEN new.epoch < old.epoch OR new.grant_version < old.grant_version
BEGIN
    SELECT RAISE(ABORT, 'a grant''s epoch and version only grow');
END;
-- +goose StatementEnd

-- What the control plane looks for all the time, and nearly never finds.
CREATE INDEX oauth_grants_refused ON oauth_grants (tenant_id, connector_id)
    WHERE status = 'needs_reauthorization';
CREATE INDEX connectors_waiting ON connectors (tenant_id, id)
    WHERE state = 'needs_reauthorization' AND deleted_at IS NULL;

-- The reason that somebody gave, where a rule asks for one.
ALTER TABLE audit ADD COLUMN note TEXT NOT NULL DEFAULT '' CHECK (length(note) <= 500);
