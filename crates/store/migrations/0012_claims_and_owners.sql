-- Since when a person is what it is by a way in that nobody else gave it: the last time that somebody
-- else gave it another role or another password. Where there was none, since it has access.
ALTER TABLE users ADD COLUMN steady_since INTEGER;

-- Until when a rule agrees to anything: the end that was signed, or when it was withdrawn. Not known of
-- rules from before; the rule itself says it.
ALTER TABLE standing_rules ADD COLUMN ends_at INTEGER;
CREATE INDEX standing_rules_in_force ON standing_rules (tenant_id, ends_at);

-- What the provider's people said that stood in the way of both sides, and when they said so: time that
-- is booked to nobody rests on it.
CREATE TABLE interruption_claims (
    change_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    cause TEXT NOT NULL,
    from_at INTEGER NOT NULL,
    until_at INTEGER,
    claimed_by TEXT NOT NULL,
    claimed_at INTEGER NOT NULL,
    altered_by TEXT,
    altered_at INTEGER,
    PRIMARY KEY (change_id, tenant_id, cause, from_at)
) STRICT;
