-- Steps of escalation of clocks, until the side is told that holds the ball: `to_tenant`, which is the
-- provider's own tenant for its people. All that one is to be told goes into one notice.
CREATE TABLE alarms (
    to_tenant TEXT NOT NULL,
    change_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    place INTEGER NOT NULL,
    -- How late the clock is, from 0: it warns, it is overdue, a due date passed.
    grade INTEGER NOT NULL,
    step TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    -- How long it may wait for others.
    tell_at INTEGER NOT NULL,
    PRIMARY KEY (change_id, tenant_id, version, place)
) STRICT;
CREATE INDEX alarms_by_time ON alarms (to_tenant, tell_at);

-- A notice of clocks is about no single change: `change_id` and `plan_hash` are empty there.
CREATE INDEX notices_of_clocks ON notices (tenant_id, created_at) WHERE kind = 'clocks';

-- The language in which a channel is written to; the provider's where there is none.
ALTER TABLE channels ADD COLUMN language TEXT;
