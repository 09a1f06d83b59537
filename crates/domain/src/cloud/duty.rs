//! Who must patch what (X.1642 8.7.1: duty follows control, and shifts to the provider from `IaaS`
//! over `PaaS` to `SaaS`).

use super::{Class, words};

words! {
    /// The side that must keep a configuration item patched.
    Duty {
        /// The provider (CSP).
        Provider = "provider",
        /// The tenant (CSC).
        Tenant = "tenant",
    }
}

words! {
    /// How a tenant uses the cloud.
    ServiceModel {
        /// Infrastructure as a service.
        Iaas = "iaas",
        /// Platform as a service.
        Paas = "paas",
        /// Software as a service.
        Saas = "saas",
    }
}

/// Who must patch a tenant's configuration item of this class under this service model, unless
/// both sides agreed otherwise for that item. The provider's own items are always its duty.
///
/// ```
/// use domain::cloud::{Class, Duty, ServiceModel, duty};
///
/// assert_eq!(duty(Class::Vm, ServiceModel::Iaas), Duty::Tenant);
/// assert_eq!(duty(Class::Vm, ServiceModel::Paas), Duty::Provider);
/// ```
pub const fn duty(class: Class, model: ServiceModel) -> Duty {
    match (class, model) {
        // The guest and all in it are the tenant's where it has the infrastructure only.
        (Class::Vm | Class::DatabaseServer, ServiceModel::Iaas)
        // On a platform what it deploys itself remains.
        | (Class::Application, ServiceModel::Iaas | ServiceModel::Paas) => Duty::Tenant,
        (
            Class::Hypervisor
            | Class::Host
            | Class::Vm
            | Class::Image
            | Class::NetworkDevice
            | Class::SecurityDevice
            | Class::DatabaseServer
            | Class::ManagementTerminal
            | Class::Application
            | Class::Service,
            _,
        ) => Duty::Provider,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written out, so that a changed cell is a changed line here.
    #[test]
    fn the_whole_matrix() {
        let rows = [
            ("hypervisor", "provider provider provider"),
            ("host", "provider provider provider"),
            ("vm", "tenant provider provider"),
            ("image", "provider provider provider"),
            ("network_device", "provider provider provider"),
            ("security_device", "provider provider provider"),
            ("database_server", "tenant provider provider"),
            ("management_terminal", "provider provider provider"),
            ("application", "tenant tenant provider"),
            ("service", "provider provider provider"),
        ];
        assert_eq!(rows.len(), Class::ALL.len());
        for (class, expected) in rows {
            let class: Class = class.parse().unwrap();
            let duties: Vec<_> =
                ServiceModel::ALL.iter().map(|&model| duty(class, model).as_str()).collect();
            assert_eq!(duties.join(" "), expected, "{class}");
        }
    }

    #[test]
    fn duty_never_shifts_back_to_the_tenant() {
        for &class in Class::ALL {
            let duties: Vec<_> =
                ServiceModel::ALL.iter().map(|&model| duty(class, model)).collect();
            assert!(duties.is_sorted_by(|a, b| (*a, *b) != (Duty::Provider, Duty::Tenant)));
        }
    }
}
