-- Each channel is a queue: when it is tried next, and how often in a row it took nothing. What waits
-- on it waits together.
ALTER TABLE channels ADD COLUMN next_at INTEGER;
ALTER TABLE channels ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
-- Whether the tenant's own people made it: only what these take counts as given.
ALTER TABLE channels ADD COLUMN is_own INTEGER NOT NULL DEFAULT 0;
-- The whole address of a webhook, sealed; `address` has what everybody may see of it.
ALTER TABLE channels ADD COLUMN sealed_address BLOB;

UPDATE channels SET is_own = 1 WHERE EXISTS (
    SELECT 1 FROM users
    WHERE users.id = channels.created_by AND users.tenant_id = channels.tenant_id);
UPDATE channels SET next_at = (
    SELECT MIN(deliveries.next_at) FROM deliveries
    WHERE deliveries.channel_id = channels.id AND deliveries.state = 'waiting');
CREATE INDEX channels_due ON channels (next_at) WHERE next_at IS NOT NULL;

DROP INDEX deliveries_waiting;
ALTER TABLE deliveries DROP COLUMN next_at;
CREATE INDEX deliveries_waiting ON deliveries (channel_id, notice_id) WHERE state = 'waiting';
CREATE INDEX notices_not_given ON notices (tenant_id) WHERE given_at IS NULL;

-- What cannot be written is left alone for a while, and stands in nobody's way.
ALTER TABLE tidings ADD COLUMN held_until INTEGER NOT NULL DEFAULT 0;

-- A token that fetches one tenant's calendar and feed, and nothing else.
ALTER TABLE tokens ADD COLUMN feed_of TEXT REFERENCES tenants (id);
ALTER TABLE tokens ADD COLUMN used_at INTEGER;
