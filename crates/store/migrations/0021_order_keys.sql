-- The provider's order keys after the first one, each named by the one before it in a statement that that one
-- signed. The secrets lie in `sealed_keys`: `orders` is the first, `orders.2` the second.
CREATE TABLE order_keys (
    version INTEGER PRIMARY KEY NOT NULL,
    public_key TEXT NOT NULL,
    handover TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
