//! Types and rules of Patchwright, without any I/O.
//!
//! Everything here is a function of its arguments: time, files and bytes come in from the
//! rooms around it, so each rule can be tested, replayed by an auditor and simulated from a seed.
//!
//! The data's way through it:
//!
//! ```text
//! files::FileView ─► (inspect) ─► inventory::Inventory ─┐
//! signed archive  ─► (collect) ─► archive::Suite        ├─► check::check ─► check::Report
//! OSV, KEV        ─► (collect) ─► advisory::Advisory    ┘
//! ```
//!
//! Terms are those of the glossary in `ARCHITECTURE.md`.

pub mod advisory;
pub mod agent;
pub mod apt_conf;
pub mod archive;
pub mod candidate;
pub mod change;
pub mod changelog;
pub mod check;
pub mod cloud;
pub mod configuration;
pub mod deb822;
pub mod dependency;
pub mod device;
pub mod files;
pub mod fleet;
pub mod image;
pub mod inventory;
pub mod matching;
pub mod obligation;
pub mod order;
pub mod pinning;
pub mod priority;
pub mod proof;
pub mod release;
pub mod sla;
pub mod source;
pub mod verification;
pub mod version;
