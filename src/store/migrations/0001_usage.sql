-- The usage ledger. Money is in 1e-12 EUR (peur), energy in 1e-9 Wh (nwh, which is 1e-12 kWh), both whole numbers.

-- One life of one gateway. Rows are numbered in each life from first_seq on, without a gap:
-- next_seq - first_seq = rows kept + purged + rejected + notes.
CREATE TABLE usage_boots (
    boot       TEXT   PRIMARY KEY,
    node       TEXT   NOT NULL,
    started_ms BIGINT NOT NULL,
    first_seq  BIGINT NOT NULL,
    next_seq   BIGINT NOT NULL,
    purged     BIGINT NOT NULL DEFAULT 0, -- rows that were removed because of their age
    rejected   BIGINT NOT NULL DEFAULT 0, -- rows that this database refused; they are in rejected.jsonl of the gateway
    notes      BIGINT NOT NULL DEFAULT 0, -- numbers used for notes on lost rows
    lost       BIGINT NOT NULL DEFAULT 0, -- rows that the gateway could not keep, and what they came to
    lost_peur  BIGINT NOT NULL DEFAULT 0
);

-- One request.
CREATE TABLE usage_rows (
    boot                TEXT   NOT NULL,
    seq                 BIGINT NOT NULL,
    time_ms             BIGINT NOT NULL,
    request_id          TEXT   NOT NULL,
    tenant              TEXT   NOT NULL,
    key_id              TEXT   NOT NULL,
    model               TEXT   NOT NULL,
    server              TEXT   NOT NULL,
    endpoint            TEXT   NOT NULL,
    status              BIGINT NOT NULL,
    outcome             TEXT   NOT NULL,
    is_streaming        BIGINT NOT NULL,
    attempts            BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL, -- part of input_tokens
    system_tokens       BIGINT NOT NULL, -- part of input_tokens
    output_tokens       BIGINT NOT NULL, -- without reasoning
    reasoning_tokens    BIGINT NOT NULL,
    input_source        TEXT   NOT NULL,
    output_source       TEXT   NOT NULL,
    reasoning_source    TEXT   NOT NULL,
    cost_peur           BIGINT NOT NULL,
    energy_nwh          BIGINT,          -- nothing where the model's is not known
    ttft_us             BIGINT,
    duration_us         BIGINT NOT NULL,
    PRIMARY KEY (boot, seq)
);
CREATE INDEX usage_rows_by_time ON usage_rows (time_ms);

-- The same, summed up; written in the transaction that writes the rows. hour and day count from 1970, in UTC.
CREATE TABLE usage_hours (
    hour                BIGINT NOT NULL,
    tenant              TEXT   NOT NULL,
    key_id              TEXT   NOT NULL,
    model               TEXT   NOT NULL,
    requests            BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    system_tokens       BIGINT NOT NULL,
    output_tokens       BIGINT NOT NULL,
    reasoning_tokens    BIGINT NOT NULL,
    cost_peur           BIGINT NOT NULL,
    energy_nwh          BIGINT NOT NULL,
    PRIMARY KEY (hour, tenant, key_id, model)
);

CREATE TABLE usage_days (
    day                 BIGINT NOT NULL,
    tenant              TEXT   NOT NULL,
    key_id              TEXT   NOT NULL,
    model               TEXT   NOT NULL,
    requests            BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    system_tokens       BIGINT NOT NULL,
    output_tokens       BIGINT NOT NULL,
    reasoning_tokens    BIGINT NOT NULL,
    cost_peur           BIGINT NOT NULL,
    energy_nwh          BIGINT NOT NULL,
    PRIMARY KEY (day, tenant, key_id, model)
);
