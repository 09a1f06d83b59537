//! Any text as an SLA policy, whole or negotiated: refused with a reason, or it reads the same again.
#![no_main]

use domain::sla::{Policy, diff};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let default = Policy::builtin("x1642-default").unwrap();
    for read in [Policy::from_toml(text), default.negotiate(text)] {
        match read {
            Ok(policy) => {
                let again = Policy::from_toml(&policy.to_toml()).unwrap();
                assert_eq!(again, policy);
                assert!(diff(&policy, &again).is_empty());
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
