-- When a host's facts first showed that it had restarted: another boot, or another running kernel.
ALTER TABLE ci_facts ADD COLUMN restarted_at INTEGER;

-- What an obligation owes beside the patch: the first of it that is open, and until when. Also of what
-- is settled: a notice that it is done, another evaluation after an emergency.
ALTER TABLE obligations ADD COLUMN owed TEXT;
ALTER TABLE obligations ADD COLUMN owed_by INTEGER;

-- What the provider's people did of that, and who: evidence that was saved, another evaluation.
CREATE TABLE errand_records (
    change_id TEXT NOT NULL,
    tenant_id TEXT NOT NULL,
    -- The obligation's version after it.
    version INTEGER NOT NULL,
    errand TEXT NOT NULL,
    said TEXT NOT NULL,
    sha256 TEXT,
    recorded_by TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (change_id, tenant_id, version)
) STRICT;

-- Whether a version excludes anything that a machine can tell.
ALTER TABLE sla_policies ADD COLUMN excludes INTEGER NOT NULL DEFAULT 0;

-- By which exclusion of its tenant's SLA a finding asks nothing of anybody, in JSON, and until when; an
-- exclusion that was taken back ended then. What is excluded no more has a clock since then.
ALTER TABLE findings ADD COLUMN excluded TEXT;
ALTER TABLE findings ADD COLUMN excluded_until INTEGER;
CREATE INDEX findings_excluded ON findings (excluded_until) WHERE excluded IS NOT NULL;
