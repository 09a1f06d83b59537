-- What the agent says that it is at, while it carries an order out.
ALTER TABLE orders ADD COLUMN at_work TEXT;
