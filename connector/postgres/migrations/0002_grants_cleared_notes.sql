-- +goose Up

-- A change begins by writing to tenants. Waiting here until none is under way is
-- what keeps the locks below from meeting one of them in a circle; readers go on.
LOCK TABLE tenants IN SHARE MODE;

-- What the control plane looks for all the time, and nearly never finds:
-- connectors that wait for a grant, and grants that an issuer refuses.
CREATE INDEX connectors_waiting ON connectors (tenant_id, id)
    WHERE state = 'needs_reauthorization' AND deleted_at IS NULL;

-- From here on readers wait, too. So the tables come in the order in which a
-- statement takes them, connectors first, and none that can be large is read.
CREATE POLICY drift ON connectors FOR SELECT TO patchbay_admin
    USING (current_setting('app.scope', true) = 'grants');
CREATE INDEX oauth_grants_refused ON oauth_grants (tenant_id, connector_id)
    WHERE status = 'needs_reauthorization';
CREATE POLICY drift ON oauth_grants FOR SELECT TO patchbay_admin
    USING (current_setting('app.scope', true) = 'grants');

ALTER TABLE oauth_grants
    ADD CONSTRAINT oauth_grants_owner CHECK (owner <> '') NOT VALID,
    ADD CONSTRAINT oauth_grants_counters CHECK (epoch >= 0 AND grant_version >= 0) NOT VALID;

-- Both fence off what is known to be past, so neither ever goes back: not by a
-- statement that forgets to compare either.
-- +goose StatementBegin
CREATE FUNCTION oauth_grants_monotonic() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a grant''s epoch and version only grow'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'oauth_grants_monotonic';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER oauth_grants_monotonic BEFORE UPDATE OF epoch, grant_version ON oauth_grants
    FOR EACH ROW WHEN (NEW.epoch < OLD.epoch OR NEW.grant_version < OLD.grant_version)
    EXECUTE FUNCTION oauth_grants_monotonic();

-- A param that was cleared keeps what its last import brought, so that the same
-- file does not bring it back. NOT VALID, because every row obeys the stricter
-- rule that goes.
ALTER TABLE connector_params
    DROP CONSTRAINT connector_params_value_or_secret,
    ADD CONSTRAINT connector_params_value_or_secret CHECK (value IS NULL OR secret_version IS NULL) NOT VALID,
    ADD CONSTRAINT connector_params_holds_something
        CHECK (value IS NOT NULL OR secret_version IS NOT NULL OR imported IS NOT NULL) NOT VALID;

-- The reason that somebody gave, where a rule asks for one.
ALTER TABLE audit
    ADD COLUMN note text NOT NULL DEFAULT '',
    ADD CONSTRAINT audit_note CHECK (length(note) <= 500) NOT VALID;

-- +goose Down
ALTER TABLE audit DROP COLUMN note;
-- The owner sees no row of a table whose security is forced on it.
ALTER TABLE connector_params NO FORCE ROW LEVEL SECURITY;
DELETE FROM connector_params WHERE value IS NULL AND secret_version IS NULL;
ALTER TABLE connector_params FORCE ROW LEVEL SECURITY;
ALTER TABLE connector_params
    DROP CONSTRAINT connector_params_holds_something,
    DROP CONSTRAINT connector_params_value_or_secret,
    ADD CONSTRAINT connector_params_value_or_secret CHECK ((value IS NULL) <> (secret_version IS NULL));
DROP TRIGGER oauth_grants_monotonic ON oauth_grants;
DROP FUNCTION oauth_grants_monotonic;
ALTER TABLE oauth_grants
    DROP CONSTRAINT oauth_grants_counters,
    DROP CONSTRAINT oauth_grants_owner;
DROP POLICY drift ON oauth_grants;
DROP POLICY drift ON connectors;
DROP INDEX connectors_waiting;
DROP INDEX oauth_grants_refused;
