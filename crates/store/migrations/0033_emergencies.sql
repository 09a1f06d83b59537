-- Break-glass: leave to alter files of an item, or of a group's items, first, and to explain it afterwards.
CREATE TABLE break_glass (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL REFERENCES tenants (id),
    -- One of both.
    ci_id TEXT REFERENCES cis (id),
    group_id TEXT,
    -- `provider` or `tenant`: of a tenant's group, the provider's people alter what the provider keeps.
    side TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    opened_by TEXT NOT NULL,
    until INTEGER NOT NULL,
    closed_at INTEGER,
    closed_by TEXT,
    review_by INTEGER NOT NULL,
    -- `accepted` or `rejected`; none until somebody reviewed it.
    outcome TEXT,
    reviewed_at INTEGER,
    reviewed_by TEXT,
    -- None where it escalated, or was reviewed.
    escalate_at INTEGER,
    escalated_at INTEGER,
    -- Raised by each step, and whenever files are altered under it.
    version INTEGER NOT NULL,
    -- Ticket, reason, accounts and files, under the tenant's key.
    sealed BLOB NOT NULL,
    -- What the reviewer says, under the tenant's key.
    sealed_review BLOB
) STRICT;
CREATE INDEX break_glass_of_tenant ON break_glass (tenant_id, id);
CREATE INDEX break_glass_unreviewed ON break_glass (tenant_id) WHERE outcome IS NULL;
CREATE INDEX break_glass_escalate ON break_glass (escalate_at) WHERE escalate_at IS NOT NULL;

-- Files that were altered under it; what happened the last time under the tenant's key.
CREATE TABLE break_glass_files (
    break_glass_id TEXT NOT NULL,
    ci_id TEXT NOT NULL,
    path_key BLOB NOT NULL,
    since INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    alterations INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (break_glass_id, ci_id, path_key)
) STRICT;

-- Of break-glass, sides are told with drifts: `drift_alarms.drift_id` is then its id, and `ci_id` empty.
