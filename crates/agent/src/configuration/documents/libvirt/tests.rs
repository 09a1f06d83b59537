use super::super::tests::Recorded;
use super::*;

#[test]
fn nobody_who_keeps_no_guests_is_asked() {
    let host = Recorded::default();
    assert_eq!(guests(&host), Ok([].into()));
    assert!(host.asked().is_empty());
    host.file("/etc/libvirt/qemu/a.xml", "");
    assert_eq!(guests(&host).unwrap_err().to_string(), "there is no program `virsh`");
}

#[test]
fn each_guest_is_a_document_also_where_one_cannot_be_seen() {
    let host = Recorded::default();
    host.file("/etc/libvirt/qemu/a.xml", "");
    host.answers("virsh -r -c qemu:///system list --all --name", "a\n--help\n\n");
    host.answers(
        "virsh -r -c qemu:///system dumpxml --inactive --domain a",
        "<domain>\n  <name>a</name>\n\n</domain>\n",
    );
    host.complains(
        "virsh -r -c qemu:///system dumpxml --inactive --domain --help",
        "error: no such domain",
    );
    let pages = guests(&host).unwrap();
    assert_eq!(pages["policy:libvirt/a"], Ok("<domain>\n  <name>a</name>\n</domain>\n".to_owned()));
    assert!(pages["policy:libvirt/--help"].is_err());
}
