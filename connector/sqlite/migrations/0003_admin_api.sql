-- +goose Up

-- A deleted tenant is suspended at once and goes for good at a later date. From the
-- moment at which that begins there is no way back, and none of it changes.
ALTER TABLE tenants ADD COLUMN purge_at INTEGER CHECK (purge_at IS NULL OR status = 'suspended');
ALTER TABLE tenants ADD COLUMN purge_begun_at INTEGER CHECK (purge_begun_at IS NULL OR purge_at IS NOT NULL);
CREATE INDEX tenants_deleted ON tenants (id) WHERE purge_at IS NOT NULL;
-- +goose StatementBegin
CREATE TRIGGER tenants_purging BEFORE UPDATE ON tenants WHEN old.purge_begun_at IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'tenants_purging');
END;
-- +goose StatementEnd

-- What is left of a tenant that is gone, beside its audit: an id that names nobody
-- else, ever.
CREATE TABLE purged_tenants (
    tenant_id TEXT NOT NULL PRIMARY KEY,
    purged_at INTEGER NOT NULL,
    actor     TEXT NOT NULL CHECK (actor <> '')
) STRICT;
-- +goose StatementBegin
CREATE TRIGGER tenants_purged BEFORE INSERT ON tenants
WHEN EXISTS (SELECT 1 FROM purged_tenants p WHERE p.tenant_id = new.id)
BEGIN
    SELECT RAISE(ABORT, 'tenants_purged');
END;
-- +goose StatementEnd

-- The platform's own requests, such as for a tenant that there is to be, are under
-- the empty id, which no tenant has. No build before used the table.
DROP TABLE idempotency_keys;
CREATE TABLE idempotency_keys (
    tenant_id    TEXT NOT NULL,
    key_hash     BLOB NOT NULL,
    request_hash BLOB NOT NULL,
    actor        TEXT NOT NULL,
    status       INTEGER,
    response     TEXT CHECK (json_valid(response)),
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_hash),
    CHECK ((status IS NULL) = (response IS NULL))
) STRICT;

CREATE INDEX audit_target ON audit (tenant_id, target, id);
CREATE INDEX audit_at ON audit (at);
