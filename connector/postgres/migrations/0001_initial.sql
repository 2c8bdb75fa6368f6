-- +goose Up

-- Ids are compared bytewise everywhere (COLLATE "C"): Go orders tenants that way
-- before it locks them, and keyset pages must not depend on a locale.
CREATE TABLE tenants (
    id          text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    external_id text CHECK (external_id <> ''),
    name        text NOT NULL,
    status      text NOT NULL CHECK (status IN ('ready', 'suspended')),
    no_update   boolean NOT NULL DEFAULT false,
    revision    bigint NOT NULL CHECK (revision > 0),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE organizations (
    tenant_id   text COLLATE "C" NOT NULL REFERENCES tenants (id),
    id          text COLLATE "C" NOT NULL CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    external_id text CHECK (external_id <> ''),
    name        text NOT NULL,
    active      boolean NOT NULL,
    no_update   boolean NOT NULL DEFAULT false,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX organizations_external_id ON organizations (tenant_id, external_id)
    WHERE external_id IS NOT NULL;

-- organization_id has no foreign key: an organization that the store does not
-- know is no error for resolution (CONTRACT), and an import creates them on demand.
CREATE TABLE connectors (
    tenant_id       text COLLATE "C" NOT NULL REFERENCES tenants (id),
    id              uuid NOT NULL,
    external_id     text CHECK (external_id <> ''),
    name            text NOT NULL,
    category        text COLLATE "C" NOT NULL CHECK (category ~ '^[a-z][a-z0-9_]{0,31}$'),
    kind            text COLLATE "C" NOT NULL CHECK (kind ~ '^[a-z][a-z0-9_]{0,31}$'),
    schema_version  integer NOT NULL CHECK (schema_version >= 1),
    organization_id text COLLATE "C" CHECK (organization_id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
    state           text NOT NULL
        CHECK (state IN ('draft', 'untested', 'connected', 'error', 'needs_reauthorization')),
    active          boolean NOT NULL,
    is_default      boolean NOT NULL,
    block_pinned    boolean NOT NULL DEFAULT false,
    no_update       boolean NOT NULL DEFAULT false,
    pin             text COLLATE "C" CHECK (pin ~ '^[0-7][0-9A-HJKMNP-TV-Z]{25}$'),
    last_test       json,
    version         bigint NOT NULL CHECK (version >= 1),
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    deleted_at      timestamptz,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT connectors_default_is_active CHECK (NOT is_default OR active)
);
-- coalesce, because NULLs are distinct to a unique index: two tenant-wide
-- defaults would both be accepted. Resolution looks its slot up here.
CREATE UNIQUE INDEX connectors_default
    ON connectors (tenant_id, coalesce(organization_id, ''), category)
    WHERE is_default AND deleted_at IS NULL;
CREATE UNIQUE INDEX connectors_external_id ON connectors (tenant_id, external_id)
    WHERE external_id IS NOT NULL AND deleted_at IS NULL;

-- What a connector is never changes: history, grants, pins and the ids that
-- documents hold would silently mean something else. Statements that leave these
-- columns alone, as all of the store's do, don't fire it.
-- +goose StatementBegin
CREATE FUNCTION connectors_immutable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a connector''s tenant, id, organization, category and kind never change'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'connectors_immutable';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER connectors_immutable BEFORE UPDATE OF tenant_id, id, organization_id, category, kind ON connectors
    FOR EACH ROW WHEN ((OLD.tenant_id, OLD.id, OLD.organization_id, OLD.category, OLD.kind)
        IS DISTINCT FROM (NEW.tenant_id, NEW.id, NEW.organization_id, NEW.category, NEW.kind))
    EXECUTE FUNCTION connectors_immutable();

-- A value is here or in Vault, never both: secrecy is structural, not a flag.
CREATE TABLE connector_params (
    tenant_id      text COLLATE "C" NOT NULL,
    connector_id   uuid NOT NULL,
    name           text COLLATE "C" NOT NULL CHECK (name <> ''),
    value          jsonb,
    imported       jsonb,
    secret_version bigint CHECK (secret_version >= 1),
    writer         text NOT NULL CHECK (writer IN ('api', 'import')),
    updated_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, connector_id, name),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE,
    CONSTRAINT connector_params_value_or_secret CHECK ((value IS NULL) <> (secret_version IS NULL)),
    CONSTRAINT connector_params_secret_not_imported CHECK (secret_version IS NULL OR imported IS NULL)
);

CREATE TABLE connector_revisions (
    tenant_id    text COLLATE "C" NOT NULL,
    connector_id uuid NOT NULL,
    version      bigint NOT NULL,
    revision     bigint NOT NULL,
    pin          text COLLATE "C",
    record       jsonb NOT NULL,
    actor        text NOT NULL CHECK (actor <> ''),
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, connector_id, version),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX connector_revisions_pin ON connector_revisions (tenant_id, connector_id, pin)
    WHERE pin IS NOT NULL;

CREATE TABLE outbox (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id         text COLLATE "C" NOT NULL REFERENCES tenants (id),
    revision          bigint NOT NULL,
    all_organizations boolean NOT NULL,
    organization_id   text COLLATE "C",
    category          text COLLATE "C",
    connector_id      uuid,
    status            boolean NOT NULL,
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    sent_at           timestamptz
);
CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_at IS NULL;
CREATE INDEX outbox_sent ON outbox (id) WHERE sent_at IS NOT NULL;
CREATE INDEX outbox_at ON outbox (at);
-- A watcher that comes back asks for what its tenant changed since a revision.
CREATE INDEX outbox_tenant ON outbox (tenant_id, revision);

-- No foreign key: an entry outlives what it names.
CREATE TABLE audit (
    tenant_id  text COLLATE "C" NOT NULL,
    id         bigint GENERATED ALWAYS AS IDENTITY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor      text NOT NULL CHECK (actor <> ''),
    action     text NOT NULL,
    target     text NOT NULL,
    outcome    text NOT NULL,
    request_id text NOT NULL DEFAULT '',
    fields     text[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, id)
);

-- The lease of a token refresh: the one table that a sidecar may update.
CREATE TABLE oauth_grants (
    tenant_id     text COLLATE "C" NOT NULL,
    connector_id  uuid NOT NULL,
    owner         text,
    epoch         bigint NOT NULL DEFAULT 0,
    until         timestamptz,
    grant_version bigint NOT NULL DEFAULT 0,
    status        text NOT NULL CHECK (status IN ('active', 'needs_reauthorization')),
    updated_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, connector_id),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE,
    CHECK ((owner IS NULL) = (until IS NULL))
);

-- status and response are NULL while the first request is under way.
CREATE TABLE idempotency_keys (
    tenant_id    text COLLATE "C" NOT NULL REFERENCES tenants (id),
    key_hash     bytea NOT NULL,
    request_hash bytea NOT NULL,
    actor        text NOT NULL,
    status       integer,
    response     jsonb,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key_hash),
    CHECK ((status IS NULL) = (response IS NULL))
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- Hashes and sealed bytes only: neither a state nor a verifier nor a code could
-- be replayed from a dump of this table. A state is used once: its callback sets
-- the handle, which has a shorter end of its own, and completing deletes the row.
CREATE TABLE oauth_states (
    state_hash        bytea PRIMARY KEY,
    tenant_id         text COLLATE "C" NOT NULL,
    connector_id      uuid NOT NULL,
    issuer            text NOT NULL,
    subject           text NOT NULL,
    redirect_uri      text NOT NULL,
    verifier_sealed   bytea NOT NULL,
    handle_hash       bytea UNIQUE,
    code_sealed       bytea,
    handle_expires_at timestamptz,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at        timestamptz NOT NULL,
    CHECK ((handle_hash IS NULL) = (code_sealed IS NULL) AND (handle_hash IS NULL) = (handle_expires_at IS NULL)),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES connectors (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX oauth_states_expiry ON oauth_states (expires_at);
CREATE INDEX oauth_states_connector ON oauth_states (tenant_id, connector_id);

-- Row-level security is the second wall: it holds when a WHERE forgets the
-- tenant. FORCE, because the owner of the tables would walk around it otherwise.
-- +goose StatementBegin
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['tenants', 'organizations', 'connectors', 'connector_params',
        'connector_revisions', 'outbox', 'audit', 'oauth_grants', 'idempotency_keys', 'oauth_states']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I USING (%I = current_setting(''app.tenant'', true))',
            name, CASE name WHEN 'tenants' THEN 'id' ELSE 'tenant_id' END);
    END LOOP;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO patchbay_sidecar, patchbay_admin, patchbay_relay', current_schema());
END
$$;
-- +goose StatementEnd

-- A sidecar validates all the tenants that it holds in one statement. The list is
-- a subselect, so that it is taken apart and hashed once: as an array it would be
-- for every row, which made 10,000 tenants cost three seconds.
CREATE POLICY several ON tenants FOR SELECT
    USING (id IN (SELECT unnest(string_to_array(current_setting('app.tenants', true), ','))));
-- The control plane lists tenants, but only where it says so.
CREATE POLICY listing ON tenants FOR SELECT TO patchbay_admin
    USING (current_setting('app.scope', true) = 'tenants');
-- The relay carries every tenant's changes; an outbox row holds no value. A
-- sidecar replays what its tenant missed, by the policy of all tables.
CREATE POLICY relay ON outbox TO patchbay_relay USING (true);
-- A consent comes back with nothing but its state: whoever knows it sees its row.
CREATE POLICY callback ON oauth_states TO patchbay_admin
    USING (state_hash = decode(current_setting('app.oauth_state', true), 'hex'));
-- Housekeeping may see and delete what has expired.
CREATE POLICY expired ON oauth_states FOR SELECT TO patchbay_relay USING (expires_at < now());
CREATE POLICY expired_delete ON oauth_states FOR DELETE TO patchbay_relay USING (expires_at < now());
CREATE POLICY expired ON idempotency_keys FOR SELECT TO patchbay_relay USING (expires_at < now());
CREATE POLICY expired_delete ON idempotency_keys FOR DELETE TO patchbay_relay USING (expires_at < now());

GRANT SELECT ON patchbay_migrations TO patchbay_sidecar, patchbay_admin, patchbay_relay;
GRANT SELECT ON tenants, organizations, connectors, connector_params, outbox, oauth_grants TO patchbay_sidecar;
GRANT UPDATE (owner, epoch, until, grant_version, status, updated_at) ON oauth_grants TO patchbay_sidecar;
GRANT SELECT, INSERT, UPDATE ON tenants, organizations, connectors TO patchbay_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON connector_params, oauth_grants, idempotency_keys, oauth_states TO patchbay_admin;
-- History and audit only grow.
GRANT SELECT, INSERT ON connector_revisions, audit, outbox TO patchbay_admin;
GRANT SELECT, UPDATE, DELETE ON outbox TO patchbay_relay;
GRANT SELECT, DELETE ON idempotency_keys, oauth_states TO patchbay_relay;

-- +goose Down
DROP TABLE oauth_states, idempotency_keys, oauth_grants, audit, outbox, connector_revisions,
    connector_params, connectors, organizations, tenants;
DROP FUNCTION connectors_immutable;
