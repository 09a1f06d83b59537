-- Drifts of which a side is to be told: `to_tenant`, which is the provider's own tenant for its people. All
-- that one is to be told goes into one notice.
CREATE TABLE drift_alarms (
    to_tenant TEXT NOT NULL,
    drift_id TEXT NOT NULL,
    ci_id TEXT NOT NULL,
    -- 0: it was opened, 1: nobody settled it in time.
    grade INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    -- How long it may wait for others.
    tell_at INTEGER NOT NULL,
    PRIMARY KEY (drift_id, to_tenant, grade)
) STRICT;
CREATE INDEX drift_alarms_by_time ON drift_alarms (to_tenant, tell_at);

-- A notice of drift is about no change: `change_id` and `plan_hash` are empty there.
CREATE INDEX notices_of_drift ON notices (tenant_id, created_at) WHERE kind = 'drift';
