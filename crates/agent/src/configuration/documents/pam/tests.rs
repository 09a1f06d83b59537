use super::super::tests::Recorded;
use super::*;

#[test]
fn stacks_are_whole_and_in_order() {
    let host = Recorded::default();
    host.file("/etc/pam.d/sshd", "# PAM for sshd\n@include common-auth\naccount required pam_nologin.so\n-session optional pam_systemd.so # if there\nsession substack inner\n");
    host.file(
        "/etc/pam.d/common-auth",
        "auth\t[success=1 default=ignore]\tpam_unix.so nullok\nauth requisite \\\n  pam_deny.so\n",
    );
    host.file(
        "/usr/lib/pam.d/inner",
        "session required pam_limits.so\nauth required pam_never.so\n",
    );
    host.file("/etc/pam.d/sshd.dpkg-old", "auth sufficient pam_permit.so\n");
    assert_eq!(
        pam(&host).unwrap(),
        "common-auth auth [success=1 default=ignore] pam_unix.so nullok\n\
         common-auth auth requisite pam_deny.so\n\
         inner auth required pam_never.so\n\
         inner session required pam_limits.so\n\
         sshd account required pam_nologin.so\n\
         sshd auth [success=1 default=ignore] pam_unix.so nullok\n\
         sshd auth requisite pam_deny.so\n\
         sshd -session optional pam_systemd.so\n\
         sshd session inner > required pam_limits.so\n"
    );
}

#[test]
fn a_file_that_includes_itself_comes_to_an_end() {
    let host = Recorded::default();
    host.file("/etc/pam.d/a", "auth include b\nauth include missing\n");
    host.file("/etc/pam.d/b", "auth include a\nauth include b\nauth required pam_deny.so\n");
    let text = pam(&host).unwrap();
    assert!(text.contains("a auth a: it is included in itself"), "{text}");
    assert!(text.contains("a auth missing: it is not there"), "{text}");
    assert!(text.contains("a auth required pam_deny.so"), "{text}");
}
