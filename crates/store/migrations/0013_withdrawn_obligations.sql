-- When a tenant's part of a change was taken back: what is missing anew since then has a new clock.
ALTER TABLE obligations ADD COLUMN withdrawn_at INTEGER;
