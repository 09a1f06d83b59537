//! What tenants are told, as data.

mod link;
mod news;
mod notice;
mod text;

pub use link::{InvalidLinkBase, LinkBase};
pub use news::{Ask, Kind, News};
pub use notice::{
    Contact, Draft, InvalidNotice, Item, ItemState, LARGEST_NOTICE, MOST_ADVISORIES, MOST_ITEMS,
    MOST_WAYS_BACK, Notice, Rollback, SCHEMA, Tenant, WayBack,
};
pub use text::{AdvisoryName, InvalidText, Line, Text};
