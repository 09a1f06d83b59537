-- What was recorded of files and is to be judged: how each alteration came about, under the tenant's key.
CREATE TABLE history_unjudged (
    tenant BLOB NOT NULL,
    ci BLOB NOT NULL,
    recorded INTEGER NOT NULL,
    told BLOB NOT NULL,
    PRIMARY KEY (tenant, recorded)
) STRICT, WITHOUT ROWID;

-- What each alteration is held to be; path, hand and reasons under the tenant's key.
CREATE TABLE verdicts (
    tenant BLOB NOT NULL,
    ci BLOB NOT NULL,
    path_key BLOB NOT NULL,
    recorded INTEGER NOT NULL,
    standing TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (tenant, ci, path_key, recorded)
) STRICT, WITHOUT ROWID;

-- What the next alteration of a file is judged by: what is in force, and how often it goes back and forth.
CREATE TABLE judged_files (
    tenant BLOB NOT NULL,
    ci BLOB NOT NULL,
    path_key BLOB NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (tenant, ci, path_key)
) STRICT, WITHOUT ROWID;

-- Alterations that nobody agreed to, or nobody can explain: open, adopted, reverted, superseded.
CREATE TABLE drifts (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    ci_id TEXT NOT NULL REFERENCES cis (id),
    path_key BLOB NOT NULL,
    state TEXT NOT NULL,
    -- `unauthorised` or `unknown`.
    standing TEXT NOT NULL,
    since INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    alterations INTEGER NOT NULL,
    -- None where it escalated, or is settled.
    escalate_at INTEGER,
    escalated_at INTEGER,
    settled_at INTEGER,
    settled_by TEXT,
    -- The alteration that puts it back.
    change_id TEXT,
    -- Why it may stay, under the tenant's key.
    reason BLOB,
    sealed BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX drifts_open ON drifts (ci_id, path_key) WHERE state = 'open';
CREATE INDEX drifts_of_ci ON drifts (ci_id, since);
CREATE INDEX drifts_of_tenant ON drifts (tenant_id, id);
CREATE INDEX drifts_escalate ON drifts (escalate_at) WHERE escalate_at IS NOT NULL;

-- What plans that may start make of files, as the plans themselves say it.
CREATE TABLE expected_files (
    ci_id TEXT NOT NULL,
    change_id TEXT NOT NULL,
    plan_hash TEXT NOT NULL,
    path TEXT NOT NULL,
    after TEXT NOT NULL,
    not_before INTEGER NOT NULL,
    not_after INTEGER NOT NULL,
    PRIMARY KEY (ci_id, path, plan_hash)
) STRICT;

-- When all of an item's files were told for the first time: what came until then is no alteration.
ALTER TABLE ci_files ADD COLUMN whole_at INTEGER;
