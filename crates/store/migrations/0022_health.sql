-- Whether an item does what its owner expects of it (`healthy`, `sick`), as its agent saw last; nothing where the
-- owner declared no probes.
ALTER TABLE ci_facts ADD COLUMN health TEXT;
CREATE INDEX ci_facts_sick ON ci_facts (ci_id) WHERE health = 'sick';
