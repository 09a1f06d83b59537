//! What the host is configured by: files and documents, without their secrets, and when somebody touches a file.
//!
//! ```text
//! policy ([configuration]) ─► Observer::look ─► Observation (files, digest) ─► difference ─► alterations
//!                              ▲                                                  ▲
//!                       every while, in full                       Watch::take: which path, by whom
//! ```
//!
//! Policies, profiles and database servers are told as [`Documents`] beside the files.
//!
//! Looks are what counts: a [`Watch`] says earlier that something was touched, and by whom, where the kernel tells it,
//! and never that nothing was. A look at a tree that did not alter ends in the digest it ended in before
//! ([`Observation::digest`]), so that one comparison tells so.
//!
//! ```no_run
//! use agent::configuration::{Observer, Watch};
//! use domain::configuration::secret::FingerprintKey;
//! use domain::order::ConfigurationRules;
//!
//! let rules = ConfigurationRules::default();
//! let mut watch = Watch::begin("/".as_ref(), &rules);
//! let mut observer = Observer::new("/", rules, FingerprintKey::from([0; 32]));
//! let before = observer.observe(jiff::Timestamp::now());
//! let touched = watch.take();
//! let after = observer.observe(jiff::Timestamp::now());
//! for difference in after.since(&before) {
//!     println!("{} {:?}", difference.path, touched.iter().find(|it| it.path == difference.path));
//! }
//! ```

mod documents;
mod installs;
mod look;
mod observation;
mod tell;
mod watch;

pub use documents::Documents;
pub use look::{Depth, Found, Observer};
pub use observation::{Difference, Kind, Observation, ObservationDigest, Original, Seen, Unseen};
pub use tell::Eyes;
pub(crate) use tell::Look;
pub use watch::{Means, Touch, Touched, Toucher, Watch};
