//! A tenant's notices as a feed (RFC 4287), the newest first.

use std::cmp::Reverse;

use atom_syndication::{
    Category, Content, Entry, Feed as AtomFeed, FixedDateTime, Generator, Link, Person, Text,
};
use jiff::Timestamp;

use super::Feed;
use crate::content::Notice;
use crate::message::{TemplateError, Templates};

/// The year from which on the hosts in the names of entries are ours (RFC 4151).
const SINCE: &str = "2026";

impl Feed<'_> {
    /// The feed: an entry for each notice, named for ever by its id and the host that it came from.
    ///
    /// # Errors
    /// If a template cannot do a notice.
    pub fn atom(&self, templates: &Templates, language: &str) -> Result<String, TemplateError> {
        let mut notices: Vec<&Notice> = self.notices.iter().collect();
        notices.sort_by_key(|notice| Reverse((notice.draft().published_at, notice.id())));
        notices.dedup_by_key(|notice| notice.id());
        let entry = |notice: &&Notice| entry(notice, templates, language);
        let newest = notices.first().map(|notice| notice.draft().published_at);
        let mut feed = AtomFeed {
            title: Text::plain(format!("Changes: {}", self.tenant.name)),
            id: format!("tag:{},{SINCE}:{}", self.base.host(), self.tenant.id),
            // Where nothing was ever told, nothing was ever updated.
            updated: date(newest.unwrap_or(Timestamp::UNIX_EPOCH)),
            entries: notices.iter().map(entry).collect::<Result<_, _>>()?,
            generator: Some(Generator {
                value: "Patchwright".to_owned(),
                version: Some(env!("CARGO_PKG_VERSION").to_owned()),
                ..Generator::default()
            }),
            lang: Some(language.to_owned()),
            ..AtomFeed::default()
        };
        feed.set_links(vec![link(self.base.to(&["notices"]))]);
        Ok(feed.to_string())
    }
}

fn entry(notice: &Notice, templates: &Templates, language: &str) -> Result<Entry, TemplateError> {
    let draft = notice.draft();
    let (subject, html) = templates.entry(language, notice)?;
    let category = |term: &str| Category { term: term.to_owned(), ..Category::default() };
    Ok(Entry {
        title: Text::plain(subject.to_string()),
        id: format!("tag:{},{SINCE}:{}", draft.link_base.host(), draft.id),
        updated: date(draft.published_at),
        published: Some(date(draft.published_at)),
        authors: vec![Person { name: draft.contact.name.to_string(), ..Person::default() }],
        categories: vec![category(notice.kind().as_str()), category(draft.category.as_str())],
        links: vec![link(notice.link())],
        content: Some(Content {
            content_type: Some("html".to_owned()),
            value: Some(html.trim().to_owned()),
            ..Content::default()
        }),
        ..Entry::default()
    })
}

fn link(href: String) -> Link {
    Link { href, rel: "alternate".to_owned(), ..Link::default() }
}

/// In whole seconds, as an instant in UTC.
fn date(at: Timestamp) -> FixedDateTime {
    let text = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    text.parse().unwrap_or_default()
}
