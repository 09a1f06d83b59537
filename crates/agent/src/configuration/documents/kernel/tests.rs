use super::super::tests::Recorded;
use super::*;

#[test]
fn mounts_of_containers_and_sessions_are_left_out() {
    let host = Recorded::default();
    host.file(
        "/proc/self/mountinfo",
        "22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw\n\
         27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro\n\
         30 27 254:0 /srv/data /mnt/my\\040data ro,nosuid - ext4 /dev/vda rw\n\
         90 27 0:50 / /var/lib/docker/overlay2/abc/merged rw - overlay overlay rw,lowerdir=/x\n\
         91 27 0:4 net:[4026532] /run/netns/a rw - nsfs nsfs rw\n\
         92 27 0:51 / /run/user/1000 rw - tmpfs tmpfs rw,size=100k\n",
    );
    assert_eq!(
        mounts(&host).unwrap(),
        "/ ext4 /dev/vda rw,relatime rw,errors=remount-ro\n\
         /mnt/my\\040data ext4 /dev/vda of /srv/data ro,nosuid rw\n\
         /proc proc proc rw,relatime rw\n"
    );
}

#[test]
fn the_kernel_tells_its_arguments_in_order_and_what_it_does_about_weaknesses() {
    let host = Recorded::default();
    host.file("/proc/cmdline", "root=/dev/vda quiet mitigations=auto\n");
    host.file("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n");
    host.file("/sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n");
    assert_eq!(
        kernel(&host).unwrap(),
        "argument root=/dev/vda\nargument quiet\nargument mitigations=auto\nlockdown integrity\n\
         weakness meltdown: Mitigation: PTI\n"
    );
    assert_eq!(modules(&host).unwrap(), "this kernel has no modules\n");
    host.file("/proc/modules", "xfs 2 0 - Live 0x0\next4 1 1 xfs, Live 0x0\n");
    assert_eq!(modules(&host).unwrap(), "ext4\nxfs\n");
}

#[test]
fn the_zone_is_told_and_not_the_time() {
    let host = Recorded::default();
    assert_eq!(time(&host).unwrap(), "zone UTC\nclock of the hardware in UTC\n");
    host.link("/etc/localtime", "/usr/share/zoneinfo/Europe/Berlin");
    host.file("/etc/adjtime", "0.0 0 0.0\n0\nLOCAL\n");
    host.file("/run/systemd/timesync/synchronized", "");
    assert_eq!(
        time(&host).unwrap(),
        "zone Europe/Berlin\nclock of the hardware in local time\nsynchronised by systemd-timesyncd\n"
    );
}
