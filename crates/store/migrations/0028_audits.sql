-- What audits of items came to. The whole report is made again of the history, which may be erased; its hash stays.
CREATE TABLE audits (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    ci_id TEXT NOT NULL REFERENCES cis (id),
    -- As it was recorded at this time; alterations since that one.
    at INTEGER NOT NULL,
    since INTEGER NOT NULL,
    -- What history does not hold, and the report is made of besides.
    seen_at INTEGER,
    said TEXT,
    recorded_at INTEGER NOT NULL,
    hash TEXT NOT NULL,
    -- Baselines with their versions, and what attributes and rules came to, without what was found.
    outcomes TEXT NOT NULL
) STRICT;
CREATE INDEX audits_of_tenant ON audits (tenant_id, id);
CREATE INDEX audits_of_ci ON audits (ci_id, at);
