//! What a configuration item is, and how it hangs together with others.

use super::words;

words! {
    /// Class of a configuration item (X.1642 8.7.2 names what patching covers: virtualization
    /// software, operating systems, network equipment, security equipment, database servers,
    /// management terminals, other components).
    Class {
        /// Virtualization software on a host.
        Hypervisor = "hypervisor",
        /// Physical machine.
        Host = "host",
        /// Virtual machine: its guest operating system.
        Vm = "vm",
        /// Image that new VMs are created from.
        Image = "image",
        /// Switch, router, load balancer.
        NetworkDevice = "network_device",
        /// Firewall, intrusion detection, hardware security module.
        SecurityDevice = "security_device",
        /// Database server.
        DatabaseServer = "database_server",
        /// Terminal from which the cloud is administered.
        ManagementTerminal = "management_terminal",
        /// Application software.
        Application = "application",
        /// Service as its tenants see it.
        Service = "service",
    }
}

words! {
    /// How one configuration item hangs together with another.
    RelationKind {
        /// A VM on its hypervisor, an application on its VM.
        RunsOn = "runs_on",
        /// A VM from its image.
        BuiltFrom = "built_from",
        /// A node of a cluster.
        MemberOf = "member_of",
        /// What fails when the other fails.
        DependsOn = "depends_on",
        /// What talks to the other.
        ConnectsTo = "connects_to",
    }
}

impl RelationKind {
    /// Whether following it for ever would be nonsense, so that circles are refused.
    pub const fn is_acyclic(self) -> bool {
        !matches!(self, Self::ConnectsTo)
    }
}
