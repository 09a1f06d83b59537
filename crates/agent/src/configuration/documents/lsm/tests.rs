use super::super::tests::Recorded;
use super::*;

#[test]
fn profiles_are_told_with_their_modes() {
    let host = Recorded::default();
    assert_eq!(apparmor(&host).unwrap(), "not enabled in this kernel\n");
    host.file("/sys/module/apparmor/parameters/enabled", "Y\n");
    assert!(apparmor(&host).is_err(), "enabled, and not to be read");
    host.file(
        "/sys/kernel/security/apparmor/profiles",
        "/usr/sbin/tcpdump (enforce)\nlibvirt-0b1e4b4e-1b7c-4b0e-9a35-0d8f2c3e4f50 (enforce)\n\
         /usr/bin/man (complain)\nman_filter//x (enforce)\n",
    );
    assert_eq!(
        apparmor(&host).unwrap(),
        "enabled\nprofile /usr/bin/man: complain\nprofile /usr/sbin/tcpdump: enforce\n\
         profile man_filter//x: enforce\n"
    );
}

#[test]
fn selinux_is_told_as_the_kernel_has_it() {
    let host = Recorded::default();
    assert_eq!(selinux(&host).unwrap(), "not enabled in this kernel\n");
    host.file("/sys/fs/selinux/enforce", "1");
    host.file("/sys/fs/selinux/policyvers", "33");
    host.file("/sys/fs/selinux/booleans/httpd_can_network_connect", "0 0");
    assert_eq!(
        selinux(&host).unwrap(),
        "boolean httpd_can_network_connect = 0\nenforcing\npolicyvers = 33\n"
    );
    host.file("/sys/fs/selinux/enforce", "0");
    assert!(selinux(&host).unwrap().contains("permissive"));
}
