use super::super::tests::Recorded;
use super::*;

const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1592 1 000000005a58aa9d 100 0 0 10 0
   1: 0100007F:C350 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 1593 1 000000005a58aa9d 100 0 0 10 0
   2: 020200C0:9094 507100CB:01BB 01 00000000:00000000 00:00000000 00000000     0        0 10355 1 00000000b880b746 20 4 1 76 148
";
const UDP6: &str = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   9: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1700 2 0000000000000000 0
  10: 00000000000000000000000000000000:D431 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1701 2 0000000000000000 0
";

fn host() -> Recorded {
    let host = Recorded::default();
    host.file("/proc/net/tcp", TCP);
    host.file("/proc/net/udp6", UDP6);
    host.file("/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    host.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
    host.link("/proc/812/fd/3", "socket:[1592]");
    host.link("/proc/812/exe", "/usr/sbin/sshd (deleted)");
    host.link("/proc/900/fd/5", "socket:[1593]");
    host.link("/proc/900/exe", "/tmp/evil\ntcp 0.0.0.0:22 /usr/sbin/sshd as root\u{1b}[2J");
    host.link("/proc/901/fd/5", "socket:[1700]");
    host.link("/proc/901/exe", "/usr/sbin/named");
    host
}

#[test]
fn who_listens_is_told_without_numbers_of_one_run() {
    let text = sockets(&host()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert_eq!(lines[0], "tcp 0.0.0.0:22 /usr/sbin/sshd as root");
    assert!(lines[1].starts_with("tcp 127.0.0.1:* /tmp/evil\\n"), "no line of its own: {text}");
    assert!(lines[1].ends_with("\\u{1b}[2J as 33"), "{text}");
    assert_eq!(lines[2], "udp [::1]:53 /usr/sbin/named as root");
}

#[test]
fn servers_are_found_by_the_sockets_they_listen_on() {
    let host = Recorded::default();
    host.file(
        "/proc/net/unix",
        "Num       RefCount Protocol Flags    Type St Inode Path
00000000b10fd985: 00000003 00000000 00000000 0001 03  1589
00000000b10fd986: 00000003 00000000 00000000 0001 03  1589 /run/connected
000000007c0f26b3: 00000002 00000000 00010000 0001 01 34058 /run/a b/mysqld.sock
000000007c0f26b4: 00000002 00000000 00010000 0001 01 34058 @abstract
",
    );
    assert_eq!(listening_paths(&host).unwrap(), ["/run/a b/mysqld.sock"]);
}
