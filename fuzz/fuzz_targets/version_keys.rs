//! Any two strings: keys order as versions do, and nothing panics.

#![no_main]

use domain::version::VersionKind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|pair: (String, String)| {
    let (a, b) = pair;
    for kind in [VersionKind::Dpkg, VersionKind::Rpm, VersionKind::Apk] {
        assert_eq!(kind.key(&a).cmp(&kind.key(&b)), kind.compare(&a, &b), "{kind}");
        assert_eq!(kind.compare(&a, &b), kind.compare(&b, &a).reverse(), "{kind}");
        if let Err(refused) = kind.validate(&a) {
            assert!(a.is_char_boundary(refused.position), "{refused}");
        }
    }
});
