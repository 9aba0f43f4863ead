-- Requests that were in work when their gateway was killed, or answered within its last commit: they have no row.
CREATE TABLE usage_unsettled (
    boot          TEXT   NOT NULL,
    time_ms       BIGINT NOT NULL,
    request_id    TEXT   NOT NULL,
    tenant        TEXT   NOT NULL,
    key_id        TEXT   NOT NULL,
    model         TEXT   NOT NULL,
    endpoint      TEXT   NOT NULL,
    input_tokens  BIGINT NOT NULL, -- as they were counted before it was forwarded
    output_tokens BIGINT NOT NULL, -- the most that it may have come to
    PRIMARY KEY (boot, time_ms, request_id)
);
CREATE INDEX usage_unsettled_by_time ON usage_unsettled (time_ms);
