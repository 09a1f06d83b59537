//! Lists, a page at a time.
//!
//! Lists are ordered by tenant, then by id, so that one statement with one index serves a tenant's
//! list and the provider's alike: a scope is a range of tenants, a cursor a place in the order.

use std::fmt;
use std::str::FromStr;

use domain::cloud::TenantId;

/// Most items of a page.
pub const LONGEST_PAGE: u16 = 1000;

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// Where the next page begins; none where the list ends.
    pub next: Option<Cursor>,
}

/// Which page is asked for.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// After which place; from the beginning where none is given.
    pub after: Option<Cursor>,
    /// How many items at most; clamped to `1..=LONGEST_PAGE`.
    pub limit: u16,
}

/// A place in a list: opaque for callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    tenant: String,
    id: String,
}

/// A text that no list gave out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a cursor of a list")]
pub struct InvalidCursor {
    given: String,
}

impl Cursor {
    pub(crate) fn new(tenant: TenantId, id: impl fmt::Display) -> Self {
        Self { tenant: tenant.to_string(), id: id.to_string() }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.tenant, self.id)
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let is_word = |text: &str| {
            !text.is_empty()
                && text.len() <= 96
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match text.split_once('.') {
            Some((tenant, id)) if is_word(tenant) && is_word(id) => {
                Ok(Self { tenant: tenant.to_owned(), id: id.to_owned() })
            }
            _ => Err(InvalidCursor { given: text.chars().take(64).collect() }),
        }
    }
}

impl PageRequest {
    /// One more than the page holds, which tells whether there is a next one.
    pub(crate) fn fetched(&self) -> i64 {
        i64::from(self.limit.clamp(1, LONGEST_PAGE)) + 1
    }

    /// `(tenant, id)` after which to begin.
    pub(crate) fn place(&self) -> (&str, &str) {
        self.after.as_ref().map_or(("", ""), |it| (&it.tenant, &it.id))
    }

    /// Cuts what was fetched to a page.
    pub(crate) fn cut<T>(&self, mut items: Vec<T>, place: impl Fn(&T) -> Cursor) -> Page<T> {
        let limit = usize::from(self.limit.clamp(1, LONGEST_PAGE));
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = if has_more { items.last().map(place) } else { None };
        Page { items, next }
    }
}

/// A scope as a range of tenant ids, both ends included.
pub(crate) fn range(scope: Option<TenantId>) -> (String, String) {
    match scope {
        Some(tenant) => (tenant.to_string(), tenant.to_string()),
        // After every id in every collation that we meet: ids are of a-z, 0-9 and _.
        None => (String::new(), "zzzz".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::cloud::PROVIDER;

    #[test]
    fn a_cursor_reads_back_and_nothing_else_does() {
        let cursor = Cursor::new(PROVIDER, "ci_x");

        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", ".", "a.", ".b", "a.b.c", "a'.b", "a.b\n"] {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_page_knows_whether_another_follows() {
        let request = PageRequest { after: None, limit: 2 };
        let place = |n: &u8| Cursor::new(PROVIDER, n);

        assert_eq!(request.cut(vec![1, 2], place).next, None);
        let page = request.cut(vec![1, 2, 3], place);
        assert_eq!((page.items, page.next), (vec![1, 2], Some(place(&2))));
    }
}
