//! What can happen in the cloud, by the words that records use.

use super::words;

words! {
    /// Kind of a recorded event.
    EventKind {
        /// The installation came to be.
        InstallationCreated = "installation.created",
        /// A tenant joined the cloud.
        TenantCreated = "tenant.created",
        /// A person was given access.
        UserCreated = "user.created",
        /// A person's name, role or password was altered.
        UserAltered = "user.altered",
        /// A person's access was taken away.
        UserDisabled = "user.disabled",
        /// A person signed in.
        SessionOpened = "session.opened",
        /// A person signed out, or was signed out.
        SessionClosed = "session.closed",
        /// An API token was made.
        TokenCreated = "token.created",
        /// An API token was taken back.
        TokenRevoked = "token.revoked",
        /// A configuration item was taken up.
        CiCreated = "ci.created",
        /// A configuration item's description was altered.
        CiAltered = "ci.altered",
        /// A configuration item left the cloud.
        CiRetired = "ci.retired",
        /// A configuration item was checked for missing patches.
        CiChecked = "ci.checked",
        /// Two configuration items were related.
        RelationAdded = "relation.added",
        /// A relation ended.
        RelationRemoved = "relation.removed",
    }
}
