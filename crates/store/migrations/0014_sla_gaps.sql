-- When a host's facts first showed that it had restarted: another boot, or another running kernel.
ALTER TABLE ci_facts ADD COLUMN restarted_at INTEGER;
