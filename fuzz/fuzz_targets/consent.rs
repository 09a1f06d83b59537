//! Any bytes as a plan, or as what a tenant signs: what is accepted has one spelling.
#![no_main]

use domain::change::{KeyId, KeyOrder, Payload, Plan, StandingRule, Statement, Verified};
use libfuzzer_sys::fuzz_target;

/// Whether the bytes are what one kind of statement says.
fn reads<T: Payload>(data: &[u8]) -> bool {
    let key = KeyId::from([7; 32]);
    let Ok(verified) = Verified::<T>::signed_by(key, data) else { return false };
    assert_eq!(verified.key(), key);
    assert_eq!(verified.said().to_payload(), data);
    true
}

fuzz_target!(|data: &[u8]| {
    let is_plan = Plan::parse(data).is_ok_and(|plan| {
        assert_eq!(plan.to_bytes(), data);
        assert_eq!(Plan::new(plan.draft().clone()).unwrap().hash(), plan.hash());
        assert!(plan.follows(&plan).is_err());
        assert!(plan.provider_items() <= plan.items().count());
        true
    });
    let kinds =
        [is_plan, reads::<Statement>(data), reads::<StandingRule>(data), reads::<KeyOrder>(data)];
    // Nothing that was signed as one thing can be shown as another.
    assert!(kinds.iter().filter(|kind| **kind).count() <= 1);
});
