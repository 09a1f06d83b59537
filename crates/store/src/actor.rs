//! Who asks.

use domain::cloud::{AgentId, CiId, PROVIDER, Role, Side, TenantId, UserId};

/// Who acts, for whom and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    /// Patchwright itself.
    System,
    /// A person, or a token that acts for one.
    Person {
        /// Who.
        user: UserId,
        /// Of which tenant; the provider's people are of `PROVIDER`.
        tenant: TenantId,
        /// As what.
        role: Role,
    },
    /// An agent, which speaks for one configuration item.
    Agent {
        /// Which agent.
        agent: AgentId,
        /// Whose item.
        tenant: TenantId,
        /// Which item.
        ci: CiId,
    },
}

impl Actor {
    /// Its id in records.
    pub fn id(&self) -> String {
        match self {
            Self::System => "system".to_owned(),
            Self::Person { user, .. } => user.to_string(),
            Self::Agent { agent, .. } => agent.to_string(),
        }
    }

    /// Its role in records.
    pub const fn role_word(&self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Person { role, .. } => role.as_str(),
            Self::Agent { .. } => "agent",
        }
    }

    /// Whose rows it may see: `None` for every tenant's.
    ///
    /// The filter stands in each query, so that no handler can forget it.
    pub fn scope(&self) -> Option<TenantId> {
        match self {
            Self::System => None,
            Self::Person { role, .. } if role.side() == Side::Provider => None,
            Self::Person { tenant, .. } | Self::Agent { tenant, .. } => Some(*tenant),
        }
    }

    /// Whether it may speak of an item: an agent speaks of its own alone.
    pub(crate) fn speaks_of(&self, item: CiId) -> bool {
        match self {
            Self::Agent { ci, .. } => *ci == item,
            Self::System | Self::Person { .. } => true,
        }
    }

    /// The tenant it belongs to.
    pub const fn tenant(&self) -> TenantId {
        match self {
            Self::System => PROVIDER,
            Self::Person { tenant, .. } | Self::Agent { tenant, .. } => *tenant,
        }
    }
}
