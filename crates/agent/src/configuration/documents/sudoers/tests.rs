use super::super::tests::Recorded;
use super::*;

#[test]
fn sudo_itself_reads_its_rules_where_it_can() {
    let host = Recorded::default();
    host.file("/etc/sudoers", "root ALL=(ALL:ALL) ALL\n");
    // cvtsudoers of sudo 1.9.13.
    host.answers(
        "cvtsudoers -c /dev/null -e -f sudoers /etc/sudoers",
        "Defaults env_reset\nDefaults\\\n    secure_path=/usr/local/sbin\\:/usr/sbin\n\nroot ALL = (ALL : ALL) ALL\n\n%sudo ALL = (ALL : ALL) ALL\n",
    );
    assert_eq!(
        sudoers(&host).unwrap(),
        "Defaults env_reset\nDefaults secure_path=/usr/local/sbin\\:/usr/sbin\nroot ALL = (ALL : ALL) ALL\n%sudo ALL = (ALL : ALL) ALL\n"
    );
}

#[test]
fn without_its_program_all_files_are_read_in_order() {
    let host = Recorded::default();
    assert!(sudoers(&host).unwrap().contains("is not there"));
    host.file("/etc/sudoers", "# comment\nDefaults passprompt=\"#1 %p\" # why\n#1000 ALL=(ALL) \\\n  NOPASSWD: ALL\n@includedir /etc/sudoers.d\n");
    host.file(
        "/etc/sudoers.d/10-ops",
        "%ops   ALL=(root)\tNOPASSWD: /usr/bin/systemctl\n#include ../extra\n",
    );
    host.file("/etc/sudoers.d/old.bak", "mallory ALL=(ALL) ALL\n");
    host.file("/etc/sudoers.d/../extra", "anna ALL=(ALL) ALL\n");
    assert_eq!(
        sudoers(&host).unwrap(),
        "Defaults passprompt=\"#1 %p\"\n#1000 ALL=(ALL) NOPASSWD: ALL\n\
         %ops ALL=(root) NOPASSWD: /usr/bin/systemctl\nanna ALL=(ALL) ALL\n"
    );
    host.file("/etc/sudoers.d/../extra", "@include /etc/sudoers\n");
    let unseen = sudoers(&host).unwrap_err().to_string();
    assert!(unseen.contains("included in itself"), "{unseen}");
}

#[test]
fn a_file_that_may_not_be_read_makes_the_whole_unseen() {
    let host = Recorded::default();
    host.forbidden("/etc/sudoers");
    assert_eq!(sudoers(&host).unwrap_err().to_string(), "`/etc/sudoers`: permission denied");
}
