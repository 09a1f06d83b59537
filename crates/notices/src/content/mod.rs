//! What tenants are told, as data.

mod clocks;
mod document;
mod draft;
mod drift;
mod link;
mod news;
mod notice;
mod text;

pub use clocks::{
    CLOCKS_SCHEMA, ClockCounts, ClockDraft, ClockNotice, LateClock, Lateness, MOST_CLOCKS,
};
pub use draft::{Contact, Draft, Item, ItemState, Rollback, Tenant, WayBack};
pub use drift::{
    DRIFT_SCHEMA, DriftCounts, DriftDraft, DriftNotice, DriftStep, Happening, MOST_BREAK_GLASS,
    MOST_DRIFTS, OpenBreakGlass, OpenDrift,
};
pub use link::{InvalidLinkBase, LinkBase};
pub use news::{Ask, Kind, News};
pub use notice::{
    InvalidNotice, LARGEST_NOTICE, MOST_ADVISORIES, MOST_ITEMS, MOST_WAYS_BACK, Notice, SCHEMA,
};
pub use text::{AdvisoryName, FileName, InvalidText, Line, Text};
