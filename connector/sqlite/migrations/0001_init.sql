-- +goose Up

-- Times are microseconds since 1970 in UTC. Text is compared bytewise.
CREATE TABLE tenants (
    id          TEXT NOT NULL PRIMARY KEY CHECK (id GLOB '[a-z0-9]*' AND id NOT GLOB '*[^a-z0-9_-]*' AND length(id) <= 63),
    external_id TEXT CHECK (external_id <> ''),
    name        TEXT NOT NULL,
    status      TEXT NOT NULL CHECK (status IN ('ready', 'suspended')),
    no_update   INTEGER NOT NULL,
    revision    INTEGER NOT NULL CHECK (revision > 0),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE organizations (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    id          TEXT NOT NULL CHECK (id GLOB '[a-z0-9]*' AND id NOT GLOB '*[^a-z0-9_-]*' AND length(id) <= 63),
    external_id TEXT CHECK (external_id <> ''),
    name        TEXT NOT NULL,
    active      INTEGER NOT NULL,
    no_update   INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX organizations_external_id ON organizations (tenant_id, external_id)
    WHERE external_id IS NOT NULL;

-- organization_id has no foreign key: resolution takes an organization that the
-- store does not know for one without own connectors.
CREATE TABLE connectors (
    tenant_id       TEXT NOT NULL REFERENCES tenants (id),
    id              TEXT NOT NULL CHECK (length(id) = 36),
    external_id     TEXT CHECK (external_id <> ''),
    name            TEXT NOT NULL,
    category        TEXT NOT NULL CHECK (category GLOB '[a-z]*' AND category NOT GLOB '*[^a-z0-9_]*' AND length(category) <= 32),
    kind            TEXT NOT NULL CHECK (kind GLOB '[a-z]*' AND kind NOT GLOB '*[^a-z0-9_]*' AND length(kind) <= 32),
    schema_version  INTEGER NOT NULL CHECK (schema_version >= 1),
    organization_id TEXT CHECK (organization_id GLOB '[a-z0-9]*' AND organization_id NOT GLOB '*[^a-z0-9_-]*'
                             AND length(organization_id) <= 63),
    state           TEXT NOT NULL CHECK (state IN ('draft', 'untested', 'connected', 'error', 'needs_reauthorization')),
    active          INTEGER NOT NULL,
    is_default      INTEGER NOT NULL,
    block_pinned    INTEGER NOT NULL,
    no_update       INTEGER NOT NULL,
    pin             TEXT CHECK (pin GLOB '[0-7]*' AND pin NOT GLOB '*[^0-9A-HJKMNP-TV-Z]*' AND length(pin) = 26),
    last_test       TEXT CHECK (json_valid(last_test)),
    version         INTEGER NOT NULL CHECK (version >= 1),
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    deleted_at      INTEGER,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT connectors_default_is_active CHECK (NOT is_default OR active)
) STRICT;
-- coalesce, because NULLs are distinct to a unique index: two tenant-wide
-- defaults would both be accepted.
CREATE UNIQUE INDEX connectors_default
    ON connectors (tenant_id, coalesce(organization_id, ''), category)
    WHERE is_default AND deleted_at IS NULL;
CREATE UNIQUE INDEX connectors_external_id ON connectors (tenant_id, external_id)
    WHERE external_id IS NOT NULL AND deleted_at IS NULL;

-- What a connector is never changes: history, grants, pins and the ids that
-- documents hold would silently mean something else.
-- +goose StatementBegin
CREATE TRIGGER connectors_immutable BEFORE UPDATE OF tenant_id, id, organization_id, category, kind ON connectors
WHEN (old.tenant_id, old.id, old.organization_id, old.category, old.kind)
    IS NOT (new.tenant_id, new.id, new.organization_id, new.category, new.kind)
BEGIN
    SELECT RAISE(ABORT, 'a connector''s tenant, id, organization, category and kind never change');
END;
-- +goose StatementEnd

-- A value is here or in the secret store, never both.
CREATE TABLE connector_params (
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
    CONSTRAINT connector_params_value_or_secret CHECK ((value IS NULL) <> (secret_version IS NULL)),
    CONSTRAINT connector_params_secret_not_imported CHECK (secret_version IS NULL OR imported IS NULL)
) STRICT, WITHOUT ROWID;

CREATE TABLE connector_revisions (
    tenant_id    TEXT NOT NULL,
    connector_id TEXT NOT NULL,
    version      INTEGER NOT NULL,
    revision     INTEGER NOT NULL,
    pin          TEXT,
    record       TEXT NOT NULL CHECK (json_valid(record)),
    actor        TEXT NOT NULL CHECK (actor <> ''),
    at           INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, version),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE
) STRICT;

-- AUTOINCREMENT: an id that was swept never comes back, a replay counts on it.
CREATE TABLE outbox (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id         TEXT NOT NULL REFERENCES tenants (id),
    revision          INTEGER NOT NULL,
    all_organizations INTEGER NOT NULL,
    organization_id   TEXT,
    category          TEXT,
    connector_id      TEXT,
    status            INTEGER NOT NULL,
    at                INTEGER NOT NULL,
    sent_at           INTEGER
) STRICT;
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (id) WHERE sent_at IS NOT NULL;
CREATE INDEX outbox_tenant ON outbox (tenant_id, revision);

CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id  TEXT NOT NULL,
    at         INTEGER NOT NULL,
    actor      TEXT NOT NULL CHECK (actor <> ''),
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    outcome    TEXT NOT NULL,
    request_id TEXT NOT NULL,
    fields     TEXT NOT NULL CHECK (json_valid(fields))
) STRICT;
CREATE INDEX audit_tenant ON audit (tenant_id, id);

CREATE TABLE oauth_grants (
    tenant_id     TEXT NOT NULL,
    connector_id  TEXT NOT NULL,
    owner         TEXT,
    epoch         INTEGER NOT NULL DEFAULT 0,
    until         INTEGER,
    grant_version INTEGER NOT NULL DEFAULT 0,
    status        TEXT NOT NULL CHECK (status IN ('active', 'needs_reauthorization')),
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, connector_id),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE,
    CHECK ((owner IS NULL) = (until IS NULL))
) STRICT;

-- status and response are NULL while the first request is under way.
CREATE TABLE idempotency_keys (
    tenant_id    TEXT NOT NULL REFERENCES tenants (id),
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

-- Hashes and sealed bytes only, as in Postgres.
CREATE TABLE oauth_states (
    state_hash        BLOB NOT NULL PRIMARY KEY,
    tenant_id         TEXT NOT NULL,
    connector_id      TEXT NOT NULL,
    issuer            TEXT NOT NULL,
    subject           TEXT NOT NULL,
    redirect_uri      TEXT NOT NULL,
    verifier_sealed   BLOB NOT NULL,
    handle_hash       BLOB UNIQUE,
    code_sealed       BLOB,
    handle_expires_at INTEGER,
    created_at        INTEGER NOT NULL,
    expires_at        INTEGER NOT NULL,
    CHECK ((handle_hash IS NULL) = (code_sealed IS NULL) AND (handle_hash IS NULL) = (handle_expires_at IS NULL)),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE
) STRICT;
