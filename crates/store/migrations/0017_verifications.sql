-- What looks after orders came to, as the verifier signed it. Kept for ever: nothing alters or removes a
-- row.
CREATE TABLE verifications (
    id TEXT PRIMARY KEY NOT NULL,
    tenant_id TEXT NOT NULL,
    ci_id TEXT NOT NULL,
    change_id TEXT NOT NULL,
    order_nonce TEXT NOT NULL REFERENCES orders (nonce),
    -- The bytes that are signed, and the envelope around them; and by which key.
    statement TEXT NOT NULL,
    envelope TEXT NOT NULL,
    key_id TEXT NOT NULL
) STRICT;
CREATE INDEX verifications_of_tenant ON verifications (tenant_id, id);
CREATE INDEX verifications_of_ci ON verifications (ci_id, id);
CREATE INDEX verifications_of_change ON verifications (change_id, id);
CREATE INDEX verifications_of_order ON verifications (order_nonce, id);

-- What an agent calls the execution of an order, and the SHA-256 of the envelope in which it says what
-- came of it.
ALTER TABLE orders ADD COLUMN execution TEXT;
ALTER TABLE orders ADD COLUMN answer_sha256 TEXT;
