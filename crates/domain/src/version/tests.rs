//! Promises that hold for every order.

use std::cmp::Ordering;

use proptest::prelude::*;

use super::VersionKind;

const KINDS: [VersionKind; 3] = [VersionKind::Dpkg, VersionKind::Rpm, VersionKind::Apk];

/// Versions near to one another, made of the pieces that the three grammars care about.
fn version() -> impl Strategy<Value = String> {
    let one_of = |pieces: &'static [&str]| prop::sample::select(pieces).prop_map(str::to_owned);
    let piece = prop_oneof![
        4 => "[0-9]{1,3}",
        1 => "0{0,3}[0-9]{18,22}",
        4 => one_of(&[".", "-", "~", "^", "+", ":", "_", "-r"]),
        3 => "[a-zA-Z]{1,2}",
        2 => one_of(&["_alpha", "_rc", "_p", "_git", "_hg", "~ab", "1:", "0:"]),
        1 => "[ -~\u{0}\u{e9}\u{1f600}]",
    ];
    prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn keys_order_as_versions_do(a in version(), b in version()) {
        for kind in KINDS {
            prop_assert_eq!(kind.key(&a).cmp(&kind.key(&b)), kind.compare(&a, &b), "{}", kind);
        }
    }

    #[test]
    fn orders_are_total(a in version(), b in version(), c in version()) {
        for kind in KINDS {
            prop_assert_eq!(kind.compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(kind.compare(&a, &b), kind.compare(&b, &a).reverse(), "{}", kind);
            let mut sorted = [&a, &b, &c];
            sorted.sort_by(|x, y| kind.compare(x, y));
            prop_assert_ne!(kind.compare(sorted[0], sorted[2]), Ordering::Greater, "{}", kind);
            if kind.compare(sorted[0], sorted[2]) == Ordering::Equal {
                prop_assert_eq!(kind.compare(sorted[0], sorted[1]), Ordering::Equal, "{}", kind);
            }
        }
    }

    #[test]
    fn any_text_at_all_compares(a in any::<String>(), b in any::<String>()) {
        for kind in KINDS {
            prop_assert_eq!(kind.key(&a).cmp(&kind.key(&b)), kind.compare(&a, &b), "{}", kind);
            if let Err(refused) = kind.validate(&a) {
                prop_assert!(refused.position <= a.len());
                prop_assert!(a.is_char_boundary(refused.position));
            }
        }
    }
}

#[test]
fn refusals_name_the_place_and_the_reason() {
    let refused = |kind: VersionKind, version| match kind.validate(version) {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    };

    assert_eq!(refused(VersionKind::Dpkg, "1:2.3-4+deb12u1"), "ok");
    assert_eq!(refused(VersionKind::Rpm, "1:2.3^git1~rc1-4.el9_2"), "ok");
    assert_eq!(refused(VersionKind::Apk, "1.2.3a_rc1_p2~ab12-r3"), "ok");
    assert_each(&[
        (
            refused(VersionKind::Dpkg, "1.0_1-1"),
            "`1.0_1-1` is no dpkg version: `_` may not stand here (at byte 3)",
        ),
        (
            refused(VersionKind::Dpkg, "2147483648:1"),
            "`2147483648:1` is no dpkg version: the epoch is larger than 2147483647 (at byte 0)",
        ),
        (
            refused(VersionKind::Dpkg, "a:1"),
            "`a:1` is no dpkg version: the epoch before the colon is not a number (at byte 0)",
        ),
        (
            refused(VersionKind::Dpkg, "1.0-"),
            "`1.0-` is no dpkg version: nothing follows the last hyphen (at byte 4)",
        ),
        (
            refused(VersionKind::Dpkg, "1:v2"),
            "`1:v2` is no dpkg version: a digit is expected (at byte 2)",
        ),
        (
            refused(VersionKind::Rpm, "1:-1"),
            "`1:-1` is no rpm version: the upstream version is empty (at byte 2)",
        ),
        (
            refused(VersionKind::Rpm, "1.0-1.é"),
            "`1.0-1.é` is no rpm version: `\\u{e9}` may not stand here (at byte 6)",
        ),
        (refused(VersionKind::Rpm, ""), "`` is no rpm version: it is empty (at byte 0)"),
        (
            refused(VersionKind::Apk, "1.2_foo-r1"),
            "`1.2_foo-r1` is no apk version: the suffix after `_` is none of alpha, beta, pre, \
             rc, cvs, svn, git, hg, p (at byte 3)",
        ),
        (
            refused(VersionKind::Apk, "1.2-r"),
            "`1.2-r` is no apk version: a number is expected after `-r` (at byte 3)",
        ),
        (
            refused(VersionKind::Apk, "1.2~xyz"),
            "`1.2~xyz` is no apk version: lower-case hexadecimal digits are expected after \
             `~` (at byte 3)",
        ),
    ]);
}

fn assert_each(cases: &[(String, &str)]) {
    for (said, expected) in cases {
        assert_eq!(said, expected);
    }
}
