-- Since when this very patch is missing: a finding stays when a later patch of its package takes the
-- place of an earlier one.
ALTER TABLE findings ADD COLUMN patch_since INTEGER NOT NULL DEFAULT 0;
UPDATE findings SET patch_since = opened_at;

-- How versions of the package compare; empty until the item's next check.
ALTER TABLE findings ADD COLUMN family TEXT NOT NULL DEFAULT '';

-- Which patch it is that a change installs, also when findings speak of a later one.
ALTER TABLE change_patches ADD COLUMN release TEXT NOT NULL DEFAULT '';
ALTER TABLE change_patches ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE change_patches ADD COLUMN candidate TEXT NOT NULL DEFAULT '';
UPDATE change_patches SET
    release = COALESCE((SELECT MIN(release) FROM findings WHERE findings.patch_id = change_patches.patch_id), ''),
    source = COALESCE((SELECT MIN(source) FROM findings WHERE findings.patch_id = change_patches.patch_id), ''),
    candidate = COALESCE((SELECT MIN(candidate) FROM findings WHERE findings.patch_id = change_patches.patch_id), '');
CREATE INDEX change_patches_by_source ON change_patches (source, release);
CREATE INDEX findings_by_source ON findings (source, release, tenant_id);
-- Which patches which tenants lack, without a look at the findings themselves.
CREATE INDEX findings_lacking ON findings (state, patch_id, tenant_id);
