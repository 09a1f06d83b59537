-- Items that are to be looked at again after they were verified: from `due_at` on. What was not seen by
-- then is waited for; `wakes_at` is when it is worked.
CREATE TABLE verifications_due (
    verification_id TEXT NOT NULL REFERENCES verifications (id),
    occasion TEXT NOT NULL,
    change_id TEXT NOT NULL,
    ci_id TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    wakes_at INTEGER NOT NULL,
    PRIMARY KEY (verification_id, occasion)
) STRICT;
CREATE INDEX verifications_due_awake ON verifications_due (wakes_at);
CREATE INDEX verifications_due_since ON verifications_due (due_at);
CREATE INDEX verifications_due_of_ci ON verifications_due (ci_id, change_id);
