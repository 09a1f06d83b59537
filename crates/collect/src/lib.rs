//! Official sources: verified bytes in, advisories and patches out.
//!
//! - [`apt`]: signed APT archives. What they offer, and what their patches fix.
//! - [`rpm`]: what an RPM repository lists.
//! - [`osv`]: advisory records in the Open Source Vulnerability format.
//! - [`kev`]: CISA's catalogue of Known Exploited Vulnerabilities.
//! - [`fetch`]: how bytes get here, every length bounded.
//!
//! Everything that arrives is hostile until proven otherwise: sizes are bounded before bytes are
//! read, hashes and signatures are checked before content is believed, and state on disk changes
//! only after everything held.

pub mod apt;
mod decompress;
pub mod fetch;
pub mod kev;
pub mod osv;
pub mod rpm;
