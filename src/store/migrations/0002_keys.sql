-- API keys. Times are milliseconds since 1970; lists and labels are JSON texts.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    tier TEXT,
    models TEXT,
    endpoints TEXT,
    networks TEXT NOT NULL,
    labels TEXT NOT NULL,
    hash BYTEA NOT NULL,
    previous_hash BYTEA,
    previous_until_ms BIGINT,
    previous_used_ms BIGINT,
    created_ms BIGINT NOT NULL,
    rotated_ms BIGINT,
    expires_ms BIGINT,
    revoked_ms BIGINT,
    deleted_ms BIGINT,
    used_ms BIGINT,
    rotate_every_s BIGINT,
    rotation_grace_s BIGINT,
    told BIGINT NOT NULL,
    notice_ms BIGINT,
    change BIGINT NOT NULL
);
CREATE INDEX api_keys_change ON api_keys (change);
CREATE INDEX api_keys_tenant ON api_keys (tenant, id);
CREATE INDEX api_keys_notice ON api_keys (notice_ms);
CREATE INDEX api_keys_told ON api_keys (told);
-- One row: how many changes there have been. Every change takes its number here first, so that changes are committed
-- in the order of their numbers and nobody who reads on from a number misses one.
CREATE TABLE api_key_changes (one BIGINT PRIMARY KEY, change BIGINT NOT NULL);
INSERT INTO api_key_changes (one, change) VALUES (1, 0);
