//! What people may be.

use super::words;

words! {
    /// A person's role. Provider roles belong to the provider's people, tenant roles to a tenant's.
    Role {
        /// Provider: runs the patch loop.
        Operator = "operator",
        /// Provider: agrees to changes; never to its own.
        Approver = "approver",
        /// Provider: reads everything, alters nothing.
        Auditor = "auditor",
        /// Provider: tenants, people, policies, keys.
        Admin = "admin",
        /// Tenant: its people, items and agreements.
        TenantOwner = "tenant_owner",
        /// Tenant: gives or refuses consent.
        TenantApprover = "tenant_approver",
        /// Tenant: reads what concerns it.
        TenantViewer = "tenant_viewer",
    }
}

words! {
    /// A side of the cloud.
    Side {
        /// CSP.
        Provider = "provider",
        /// CSC.
        Tenant = "tenant",
    }
}

words! {
    /// What a token may be used for, within what its person may do.
    Access {
        /// Reading alone.
        Read = "read",
        /// All that its person may do.
        Write = "write",
    }
}

impl Role {
    /// The side that has such people.
    pub const fn side(self) -> Side {
        match self {
            Self::Operator | Self::Approver | Self::Auditor | Self::Admin => Side::Provider,
            Self::TenantOwner | Self::TenantApprover | Self::TenantViewer => Side::Tenant,
        }
    }

    /// Whether the role can alter anything.
    pub const fn only_reads(self) -> bool {
        matches!(self, Self::Auditor | Self::TenantViewer)
    }
}
