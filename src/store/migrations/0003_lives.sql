-- What each life of a gateway has used on a day; written in the transaction that writes the rows. Gateways that share
-- budgets count each life by itself, so that whoever tells the shared store about it tells the same number. What was
-- stored before this table was there, or by an older gateway beside it, is what usage_days has more.
CREATE TABLE usage_lives (
    boot      TEXT   NOT NULL,
    day       BIGINT NOT NULL, -- from 1970, in UTC
    tenant    TEXT   NOT NULL,
    key_id    TEXT   NOT NULL,
    model     TEXT   NOT NULL,
    tokens    BIGINT NOT NULL, -- input and output of all kinds
    cost_peur BIGINT NOT NULL,
    PRIMARY KEY (boot, day, tenant, key_id, model)
);
CREATE INDEX usage_lives_by_day ON usage_lives (day);
