use super::super::tests::Recorded;
use super::*;

#[test]
fn passwords_are_told_to_be_there_and_never_which() {
    let host = Recorded::default();
    host.file("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nanna:x:1000:1000:Anna,,,:/home/anna:/bin/sh\nweb:x:33:33::/var/www:/usr/sbin/nologin\nold:$6$abc$defghijkl:5:5::/:/bin/sh\nfree::6:6::/:/bin/sh\n");
    host.file("/etc/group", "root:x:0:\nsudo:x:27:anna\nanna:x:1000:\n");
    host.file("/etc/shadow", "root:!$y$j9T$salt$hash:19000:0:99999:7:::\nanna:$y$j9T$c4n4ry$hash:19000:0:99999:7::20000:\nweb:*:19000:0:99999:7:::\n");
    let text = accounts(&host).unwrap();
    for line in [
        "user anna: uid 1000, group anna, home /home/anna, shell /bin/sh",
        "user anna: has a password",
        "user anna: expires on day 20000 since 1970",
        "user root: password locked",
        "user web: no password",
        "user old: has a password",
        "user free: no password is asked for",
        "group sudo: member anna",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    assert!(
        !text.contains("c4n4ry") && !text.contains("salt") && !text.contains("defgh"),
        "{text}"
    );
}

#[test]
fn without_the_right_to_read_hashes_that_is_said() {
    let host = Recorded::default();
    host.file("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n");
    host.file("/etc/group", "root:x:0:\n");
    host.forbidden("/etc/shadow");
    let text = accounts(&host).unwrap();
    assert!(text.contains("user root: unseen: `/etc/shadow`: permission denied"), "{text}");
}
