use super::super::tests::Recorded;
use super::*;

#[test]
fn units_are_told_without_those_of_one_run() {
    let host = Recorded::default();
    host.answers(
        "systemctl list-unit-files",
        "ssh.service    enabled  enabled\ngetty@.service enabled enabled\nrun-u12.service transient -\n\
         user@1000.service transient -\nuser@.service static -\ncryptdisks.service masked enabled\n",
    );
    assert_eq!(
        units(&host).unwrap(),
        "cryptdisks.service masked\ngetty@.service enabled\nssh.service enabled\nuser@.service static\n"
    );
}

#[test]
fn services_that_run_and_that_failed_are_told() {
    let host = Recorded::default();
    host.answers(
        "systemctl list-units",
        "ssh.service loaded active running OpenBSD Secure Shell server\n\
         apt-daily.service loaded activating start Daily apt download activities\n\
         apt-daily.timer loaded active running Daily apt\n\
         nginx.service loaded failed failed A server\n\
         user@1000.service loaded active running User Manager\n\
         systemd-hostnamed.service loaded active running Hostname Service\n\
         plymouth.service not-found inactive dead plymouth.service\n",
    );
    assert_eq!(
        services(&host).unwrap(),
        "apt-daily.timer active (waiting)\nnginx.service failed\nssh.service active (running)\n"
    );
    host.complains(
        "systemctl list-units",
        "System has not been booted with systemd as init system (PID 1). Can't operate.",
    );
    let unseen = services(&host).unwrap_err().to_string();
    assert!(unseen.starts_with("`systemctl` ended with 1: System has not been booted"), "{unseen}");
}
