//! Entries and records, counted by tenant and kind: as many of the one as of the other.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use jiff::Timestamp;
use ledger::Envelope;
use serde_json::Value;

use crate::client::output::{Table, text};
use crate::failure::helped;
use crate::text::count;

/// How many there are of a kind, for one tenant.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) entries: u64,
    pub(super) records: u64,
}

/// What was counted. In entries a tenant stands as a pseudonym; which one it is, its records tell.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<(String, String), Count>,
    /// Whose pseudonym it is, where there is a record.
    tenants: BTreeMap<String, String>,
}

impl Tally {
    /// Takes an entry, and its record where it is here.
    ///
    /// # Errors
    /// If the record says something else than its entry.
    pub(super) fn add(&mut self, entry: &Envelope, record: Option<&Value>) -> Result<()> {
        let pseudonym = entry.tenant.clone().unwrap_or_default();
        let count = self.counts.entry((pseudonym.clone(), entry.kind.clone())).or_default();
        count.entries += 1;
        let Some(record) = record else { return Ok(()) };
        count.records += 1;
        let tenant = text(&record["tenant"]);
        let known = self.tenants.entry(pseudonym).or_insert_with(|| tenant.clone());
        let says = [
            ("tenant", tenant == *known),
            ("kind", text(&record["kind"]) == entry.kind),
            ("role", text(&record["role"]) == entry.role),
            ("version", record["version"].as_u64() == Some(entry.version)),
            ("at", text(&record["at"]).parse().is_ok_and(|at: Timestamp| at == entry.at)),
        ];
        match says.iter().find(|(_, is_same)| !is_same) {
            None => Ok(()),
            Some((member, _)) => Err(helped(
                anyhow!("entry {} and its record do not say the same `{member}`", entry.sequence),
                "the record is what was committed to, so whoever wrote the entry wrote both: ask the \
                 control plane's operator",
            )),
        }
    }

    /// Whether each entry has its record: of one's own tenants, or all where one sees all.
    ///
    /// # Errors
    /// If one is missing.
    pub(super) fn check(&self, sees_all: bool) -> Result<()> {
        let is_own = |pseudonym: &String| sees_all || self.tenants.contains_key(pseudonym);
        let lacking: Vec<_> = self
            .counts
            .iter()
            .filter(|((pseudonym, _), count)| is_own(pseudonym) && count.entries != count.records)
            .collect();
        let Some(((pseudonym, kind), first)) = lacking.first() else { return Ok(()) };
        let whose = self.tenants.get(pseudonym).unwrap_or(pseudonym);
        let missing: u64 = lacking.iter().map(|(_, count)| count.entries - count.records).sum();
        let missing = usize::try_from(missing).unwrap_or(usize::MAX);
        Err(helped(
            anyhow!(
                "{} without a record: of `{kind}` for {whose} there are {} entries and {} records",
                count(missing, "entry", "entries"),
                first.entries,
                first.records
            ),
            "the control plane did not give them, or files were taken out of the directory: export into \
             a new one; if they stay away, ask its operator",
        ))
    }

    /// The counts by tenant and kind, one's own first; of others together.
    pub(super) fn rows(&self) -> Vec<(&str, &str, Count)> {
        let mut own = Vec::new();
        let mut others: BTreeMap<&str, Count> = BTreeMap::new();
        for ((pseudonym, kind), count) in &self.counts {
            match self.tenants.get(pseudonym) {
                Some(tenant) => own.push((tenant.as_str(), kind.as_str(), *count)),
                None => others.entry(kind).or_default().entries += count.entries,
            }
        }
        own.sort_by_key(|&(tenant, kind, _)| (tenant, kind));
        own.extend(others.into_iter().map(|(kind, count)| ("", kind, count)));
        own
    }

    /// The same as a table.
    pub(super) fn table(&self, name: impl Fn(&str) -> String) -> Table {
        let mut table = Table::new(&["TENANT", "KIND", "ENTRIES", "RECORDS"]);
        for (tenant, kind, count) in self.rows() {
            let (tenant, records) = match tenant {
                "" => ("others".to_owned(), "–".to_owned()),
                tenant => (name(tenant), count.records.to_string()),
            };
            let entries = count.entries.to_string();
            table.row(vec![tenant.into(), kind.into(), entries.into(), records.into()]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(sequence: u64, tenant: &str) -> Envelope {
        Envelope {
            sequence,
            at: "2026-03-01T08:00:00Z".parse().unwrap(),
            clock: "clk_1".to_owned(),
            actor: "usr_1".to_owned(),
            role: "admin".to_owned(),
            tenant: Some(tenant.to_owned()),
            kind: "ci.created".to_owned(),
            object: "ci_1".to_owned(),
            version: 1,
            commitments: Vec::new(),
            previous: None,
        }
    }

    fn record(tenant: &str, kind: &str) -> Value {
        json!({
            "tenant": tenant, "kind": kind, "role": "admin", "version": 1,
            "at": "2026-03-01T08:00:00Z",
        })
    }

    #[test]
    fn a_record_that_was_held_back_is_missed() {
        let mut tally = Tally::default();
        tally.add(&entry(0, "p1"), Some(&record("a", "ci.created"))).unwrap();
        tally.add(&entry(1, "p2"), None).unwrap();

        assert!(tally.check(false).is_ok(), "another tenant's");
        assert!(tally.check(true).is_err(), "but not for who sees all");
        tally.add(&entry(2, "p1"), None).unwrap();
        let error = tally.check(false).unwrap_err();
        assert!(error.to_string().contains("2 entries and 1 records"), "{error}");
    }

    #[test]
    fn an_entry_and_its_record_say_the_same() {
        let mut tally = Tally::default();
        tally.add(&entry(0, "p1"), Some(&record("a", "ci.created"))).unwrap();

        assert!(tally.add(&entry(1, "p1"), Some(&record("a", "ci.retired"))).is_err());
        assert!(tally.add(&entry(2, "p1"), Some(&record("b", "ci.created"))).is_err());
    }

    #[test]
    fn others_are_counted_together() {
        let mut tally = Tally::default();
        tally.add(&entry(0, "p1"), Some(&record("a", "ci.created"))).unwrap();
        tally.add(&entry(1, "p2"), None).unwrap();
        tally.add(&entry(2, "p3"), None).unwrap();

        let rows = tally.rows();

        assert_eq!(rows[0], ("a", "ci.created", Count { entries: 1, records: 1 }));
        assert_eq!(rows[1], ("", "ci.created", Count { entries: 2, records: 0 }));
    }
}
