//! What all items of a group, or of a tenant, were configured by at a time, and what altered across them.
//!
//! A page costs one statement for its items, one for its files, and one look into each sealed partition for each of its
//! items, however many files these have: files lie in the order of their items, which is the order of the pages.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::history::{FilePath, Found, Item, PathKey, Version};
use domain::cloud::{CiId, GroupId, TenantId};
use domain::configuration::document::original_of;
use jiff::Timestamp;
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::keys::{TenantKeys, version_place};
use super::read::{Difference, FileVersion, Past};
use super::rows::{PartitionState, Spans, bytes};
use super::{History, blocking, timestamp};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::groups::member;
use crate::page::{Cursor, LONGEST_PAGE, Page, PageRequest, range};
use crate::value::{get, parsed};

/// Most items of one page.
const ITEMS: usize = 100;

/// Whose files are asked for.
#[derive(Debug, Clone, Default)]
pub struct Across {
    /// Of one tenant's items; one of both is named.
    pub tenant: Option<TenantId>,
    /// Of the items that belong to a group now: what belonged to it then is not kept.
    pub group: Option<GroupId>,
    /// Only files whose path begins with this.
    pub below: String,
}

/// A file of one of several items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// On which item.
    pub ci: CiId,
    /// What people call it.
    pub ci_name: String,
    /// Which file.
    pub path: FilePath,
    /// What is told of it; `None` where that was erased.
    pub told: Option<T>,
}

/// A tenant that is asked for.
struct Asked {
    tenant: TenantId,
    keys: Arc<TenantKeys>,
}

/// Items of a page.
struct Items {
    /// By the 128 bits of their ids.
    names: BTreeMap<[u8; 16], (CiId, String)>,
    /// Where the next page begins, where all files of these are told.
    next: Option<Cursor>,
}

/// What a file was at a time.
#[derive(Debug, Clone)]
enum Then {
    Absent,
    Erased,
    Was(Box<Version>),
}

/// A row of files, with what it was at each of some times.
struct Row<const N: usize> {
    ci: [u8; 16],
    path: FilePath,
    then: [Then; N],
}

/// A place in the order of items and files.
#[derive(Debug, Clone, Copy)]
struct Place {
    ci: [u8; 16],
    key: [u8; 16],
}

impl History {
    /// All files that several items had at a time, by item.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the actor may not see the tenant or the group; [`StoreError::Refused`] where
    /// neither is named, or the cursor is of another list.
    pub async fn files_across(
        &self,
        by: &Actor,
        which: &Across,
        at: Timestamp,
        page: &PageRequest,
    ) -> Result<Past<Page<Placed<FileVersion>>>, StoreError> {
        let found = self.across(by, which, [at.as_microsecond()], page).await?;
        Ok(told(found, |[then]| match then {
            Then::Absent => None,
            Then::Erased => Some(None),
            Then::Was(version) => {
                Some(Some(FileVersion::new(*version, None))).filter(|it| is_there(it.as_ref()))
            }
        }))
    }

    /// The files of several items that were others at two times, by item.
    ///
    /// # Errors
    /// As [`files_across`](Self::files_across) has them.
    pub async fn differences_across(
        &self,
        by: &Actor,
        which: &Across,
        (before, after): (Timestamp, Timestamp),
        page: &PageRequest,
    ) -> Result<Past<Page<Placed<Difference>>>, StoreError> {
        let times = [before.as_microsecond(), after.as_microsecond()];
        let found = self.across(by, which, times, page).await?;
        Ok(told(found, |[before, after]| {
            let version = |then| match then {
                Then::Was(version) => {
                    Some(FileVersion::new(*version, None)).filter(FileVersion::is_present)
                }
                Then::Absent | Then::Erased => None,
            };
            // Of what was erased nobody can say whether it was the same.
            if matches!(before, Then::Erased) || matches!(after, Then::Erased) {
                return Some(None);
            }
            let (before, after) = (version(before), version(after));
            let state = |it: &Option<FileVersion>| it.as_ref().map(|it| it.state.clone());
            (state(&before) != state(&after)).then_some(Some(Difference { before, after }))
        }))
    }

    async fn across<const N: usize>(
        &self,
        by: &Actor,
        which: &Across,
        times: [i64; N],
        page: &PageRequest,
    ) -> Result<Past<Pages<N>>, StoreError> {
        let (first, last) = (times.iter().min().copied(), times.iter().max().copied());
        let (first, last) = (first.unwrap_or(i64::MAX), last.unwrap_or(i64::MAX));
        let asked = match self.asked_across(by, which, first).await? {
            Past::Kept(Some(asked)) => asked,
            Past::Kept(None) => return Ok(Past::Kept(Pages::default())),
            Past::Erased => return Ok(Past::Erased),
            Past::Forgotten { kept_from } => return Ok(Past::Forgotten { kept_from }),
        };
        let after = place(page)?;
        let items = self.items_across(&asked, which, after, (first, last)).await?;
        if items.names.is_empty() {
            return Ok(Past::Kept(Pages::default()));
        }
        let limit = usize::from(page.limit.clamp(1, LONGEST_PAGE));
        let rows = self.rows_across(&asked, &items, after, times, limit + 1).await?;
        let (mut found, mut next) = (Vec::with_capacity(rows.len()), items.next);
        if rows.len() > limit {
            let last = &rows[limit - 1];
            let (ci, key) = (bytes(last, "ci")?, bytes(last, "path_key")?);
            next = Some(cursor(asked.tenant, Place { ci, key }));
        }
        for row in rows.iter().take(limit) {
            found.push(self.row_across(&asked.keys, row, times)?);
        }
        self.open_spans(&asked.keys, &mut found, times).await?;
        let is_meant = |path: &FilePath| {
            original_of(path.as_str()).is_none() && path.as_str().starts_with(&which.below)
        };
        let rows = found.into_iter().map(|(row, _)| row).filter(|row| is_meant(&row.path));
        Ok(Past::Kept(Pages { rows: rows.collect(), names: items.names, next }))
    }

    /// The tenant with its keys; `None` where nothing was recorded of it.
    async fn asked_across(
        &self,
        by: &Actor,
        which: &Across,
        first: i64,
    ) -> Result<Past<Option<Asked>>, StoreError> {
        let tenant = match (which.tenant, which.group) {
            (tenant, Some(id)) => {
                let group = self.store.group(by, id).await?;
                if tenant.is_some_and(|tenant| tenant != group.tenant) {
                    return Err(StoreError::not_found("group", &id));
                }
                group.tenant
            }
            (Some(tenant), None) => tenant,
            (None, None) => {
                return Err(StoreError::Refused {
                    reason: "it is not said whose files are meant".to_owned(),
                    help: "name a group or a tenant",
                });
            }
        };
        let (low, high) = range(by.scope());
        let row = sqlx::query(
            "SELECT h.sealed_key, h.kept_from FROM tenants t
             LEFT JOIN history_tenants h ON h.tenant_id = t.id
             WHERE t.id = $1 AND t.id BETWEEN $2 AND $3",
        )
        .bind(tenant.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| StoreError::not_found("tenant", &tenant))?;
        if let Some(kept_from) = get::<Option<i64>>(&row, "kept_from")?
            && first < kept_from
        {
            return Ok(Past::Forgotten { kept_from: timestamp(kept_from) });
        }
        let Some(sealed) = get::<Option<Vec<u8>>>(&row, "sealed_key")? else {
            return Ok(Past::Kept(None));
        };
        let keys = self.cache.tenant(&self.master, tenant, &sealed)?;
        Ok(Past::Kept(Some(Asked { tenant, keys })))
    }

    /// Items that were there at some of the times.
    async fn items_across(
        &self,
        asked: &Asked,
        which: &Across,
        after: Option<Place>,
        (first, last): (i64, i64),
    ) -> Result<Items, StoreError> {
        let rows = sqlx::query(concat!(
            "SELECT c.id, c.name FROM cis c
             WHERE c.tenant_id = $1 AND c.id >= $2 AND c.created_at <= $3
                 AND (c.retired_at IS NULL OR c.retired_at > $4) AND ",
            member!("$5"),
            " ORDER BY c.id LIMIT $6"
        ))
        .bind(asked.tenant.to_string())
        .bind(after.map(|it| CiId::from_bytes(it.ci).to_string()).unwrap_or_default())
        .bind(last)
        .bind(first)
        .bind(which.group.map(|group| group.to_string()).unwrap_or_default())
        .bind(i64::try_from(ITEMS + 1).unwrap_or(i64::MAX))
        .fetch_all(self.pool())
        .await?;
        let mut names = BTreeMap::new();
        for row in rows.iter().take(ITEMS) {
            let id: CiId = parsed(row, "id")?;
            names.insert(id.as_bytes(), (id, get(row, "name")?));
        }
        let next = match names.last_key_value() {
            Some((&ci, _)) if rows.len() > ITEMS => {
                Some(cursor(asked.tenant, Place { ci, key: [0xff; 16] }))
            }
            _ => None,
        };
        Ok(Items { names, next })
    }

    /// Their files after a place, each with its version of each time that is in the tail: in one statement, so that a
    /// version is in the tail or in a span, never in neither.
    async fn rows_across<const N: usize>(
        &self,
        asked: &Asked,
        items: &Items,
        after: Option<Place>,
        times: [i64; N],
        limit: usize,
    ) -> Result<Vec<AnyRow>, StoreError> {
        let text = statement::<N>();
        let after = after.unwrap_or(Place { ci: [0; 16], key: [0; 16] });
        let mut query = sqlx::query(AssertSqlSafe(text))
            .bind(asked.keys.tenant.to_vec())
            .bind(after.ci.to_vec())
            .bind(after.key.to_vec())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            // What was recorded last before the first of two times was the same at both.
            .bind(if N > 1 { times.iter().min().copied().unwrap_or(i64::MIN) } else { i64::MIN });
        for time in times {
            query = query.bind(time);
        }
        // As many as the statement has places for: the last one again and again.
        let ids = items
            .names
            .keys()
            .chain(items.names.last_key_value().map(|(id, _)| id).into_iter().cycle());
        for id in ids.take(ITEMS) {
            query = query.bind(id.to_vec());
        }
        Ok(query.fetch_all(self.pool()).await?)
    }

    /// A row, with the partitions in which it is looked up for the times of which the tail knows nothing.
    fn row_across<const N: usize>(
        &self,
        keys: &TenantKeys,
        row: &AnyRow,
        times: [i64; N],
    ) -> Result<(Row<N>, [Option<i64>; N]), StoreError> {
        let (ci, key) = (bytes(row, "ci")?, PathKey(bytes(row, "path_key")?));
        let path = keys.pool.open_path(key, &get::<Vec<u8>>(row, "path")?)?;
        let spans = Spans::read(&get::<Vec<u8>>(row, "spans")?)?;
        let mut found = Row { ci, path, then: std::array::from_fn(|_| Then::Absent) };
        let mut wanted = [None; N];
        for (place, time) in times.into_iter().enumerate() {
            let [recorded, number, version, sealed_key] = COLUMNS[place];
            let Some(recorded) = get::<Option<i64>>(row, recorded)? else {
                wanted[place] = spans.at(time);
                continue;
            };
            let sealed_key: Vec<u8> = get(row, sealed_key)?;
            let data_key = self.cache.data_key(keys, get(row, number)?, &sealed_key)?;
            let sealed: Vec<u8> = get(row, version)?;
            let opened = data_key.rows().open(&version_place(Item(ci), key, recorded), &sealed)?;
            found.then[place] = Then::Was(Box::new(Version::from_bytes(&opened)?.1));
        }
        Ok((found, wanted))
    }

    /// Looks up what stands in sealed partitions: each once for each item.
    async fn open_spans<const N: usize>(
        &self,
        keys: &Arc<TenantKeys>,
        found: &mut [(Row<N>, [Option<i64>; N])],
        times: [i64; N],
    ) -> Result<(), StoreError> {
        let mut wanted = BTreeMap::<(i64, [u8; 16]), Vec<_>>::new();
        for (row, (it, numbers)) in found.iter().enumerate() {
            for (place, number) in numbers.iter().enumerate() {
                if let Some(number) = number {
                    wanted.entry((*number, it.ci)).or_default().push((row, place));
                }
            }
        }
        for ((number, ci), places) in wanted {
            let Some(partition) = self.partition(keys, number).await? else {
                if self.unreadable(keys, number).await? == PartitionState::Erased {
                    for (row, place) in places {
                        found[row].0.then[place] = Then::Erased;
                    }
                }
                continue;
            };
            let held = blocking(move || partition.item(Item(ci))).await?;
            let held: BTreeMap<FilePath, Vec<Found>> = held.into_iter().collect();
            for (row, place) in places {
                let is_before = |found: &&Found| found.version.recorded <= times[place];
                let versions = held.get(&found[row].0.path).into_iter().flatten().rev();
                if let Some(it) = versions.into_iter().find(is_before) {
                    found[row].0.then[place] = Then::Was(Box::new(it.version.clone()));
                }
            }
        }
        Ok(())
    }
}

/// A page as it was found.
struct Pages<const N: usize> {
    rows: Vec<Row<N>>,
    names: BTreeMap<[u8; 16], (CiId, String)>,
    next: Option<Cursor>,
}

impl<const N: usize> Default for Pages<N> {
    fn default() -> Self {
        Self { rows: Vec::new(), names: BTreeMap::new(), next: None }
    }
}

/// What is told of each row, where anything is.
fn told<const N: usize, T>(
    found: Past<Pages<N>>,
    tell: impl Fn([Then; N]) -> Option<Option<T>>,
) -> Past<Page<Placed<T>>> {
    let Pages { rows, names, next } = match found {
        Past::Kept(found) => found,
        Past::Erased => return Past::Erased,
        Past::Forgotten { kept_from } => return Past::Forgotten { kept_from },
    };
    let placed = rows.into_iter().filter_map(|row| {
        let (ci, ci_name) = names.get(&row.ci)?.clone();
        Some(Placed { ci, ci_name, path: row.path, told: tell(row.then)? })
    });
    Past::Kept(Page { items: placed.collect(), next })
}

fn is_there(version: Option<&FileVersion>) -> bool {
    version.is_some_and(FileVersion::is_present)
}

/// Columns of the version of each time: when it was recorded, its partition, itself, and that partition's key.
const COLUMNS: [[&str; 4]; 2] = [
    ["recorded_0", "number_0", "version_0", "sealed_key_0"],
    ["recorded_1", "number_1", "version_1", "sealed_key_1"],
];

/// `$1` tenant, `$2` and `$3` after which item and file, `$4` how many, `$5` recorded after that, then the times, then
/// the items.
fn statement<const N: usize>() -> String {
    use std::fmt::Write as _;
    let (mut columns, mut joins) = (String::new(), String::new());
    for (place, [recorded, number, version, sealed_key]) in COLUMNS.iter().enumerate().take(N) {
        // Writing into a string cannot fail.
        let _ = write!(
            columns,
            ", t{place}.recorded AS {recorded}, t{place}.number AS {number},
               t{place}.version AS {version}, p{place}.sealed_key AS {sealed_key}"
        );
        let _ = write!(
            joins,
            " LEFT JOIN history_tail t{place}
                  ON t{place}.tenant = f.tenant AND t{place}.ci = f.ci
                  AND t{place}.path_key = f.path_key AND t{place}.recorded = (
                      SELECT MAX(x.recorded) FROM history_tail x
                      WHERE x.tenant = f.tenant AND x.ci = f.ci AND x.path_key = f.path_key
                      AND x.recorded <= ${})
              LEFT JOIN history_partitions p{place}
                  ON p{place}.tenant = t{place}.tenant AND p{place}.number = t{place}.number",
            place + 6
        );
    }
    let items: Vec<_> = (0..ITEMS).map(|item| format!("${}", item + N + 6)).collect();
    format!(
        "SELECT f.ci, f.path_key, f.path, f.spans{columns} FROM history_files f{joins}
         WHERE f.tenant = $1 AND (f.ci, f.path_key) > ($2, $3) AND f.recorded > $5
             AND f.ci IN ({}) ORDER BY f.ci, f.path_key LIMIT $4",
        items.join(", ")
    )
}

fn cursor(tenant: TenantId, Place { ci, key }: Place) -> Cursor {
    Cursor::new(tenant, format!("{}_{}", CiId::from_bytes(ci), crate::value::hex(&key)))
}

/// After which place a page begins.
fn place(page: &PageRequest) -> Result<Option<Place>, StoreError> {
    let (_, id) = page.place();
    if id.is_empty() {
        return Ok(None);
    }
    let read = || {
        let (ci, key) = id.rsplit_once('_')?;
        let key = u128::from_str_radix(key, 16).ok().filter(|_| key.len() == 32)?;
        Some(Place { ci: ci.parse::<CiId>().ok()?.as_bytes(), key: key.to_be_bytes() })
    };
    read().map(Some).ok_or_else(|| StoreError::Refused {
        reason: "the cursor is of another list".to_owned(),
        help: "leave `after` out for the first page, then send `next` as it came",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::cloud::PROVIDER;

    #[test]
    fn a_place_reads_back_and_no_other_lists_does() {
        let ci = CiId::of_content([3; 16]).as_bytes();
        let request = |after: Cursor| PageRequest { after: Some(after), limit: 1 };

        let found = place(&request(cursor(PROVIDER, Place { ci, key: [0xfe; 16] }))).unwrap();

        assert_eq!(found.map(|it| (it.ci, it.key)), Some((ci, [0xfe; 16])));
        for id in ["ci_x_00".to_owned(), CiId::of_content([3; 16]).to_string(), "x".to_owned()] {
            assert!(place(&request(Cursor::new(PROVIDER, id))).is_err());
        }
    }
}
