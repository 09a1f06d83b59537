//! By what the SSH server goes: `sshd -T`, which has read all of its files.

use super::host::{Host, Question};
use super::{Page, page};

/// What `sshd` answers outside of any `Match`.
pub(super) fn sshd(host: &dyn Host) -> Page {
    let whole = ask(host, "-T");
    // Later versions tell it also where host keys or the directory of the service are missing.
    whole.or_else(|because| ask(host, "-G").map_err(|_| because))
}

fn ask(host: &dyn Host, option: &str) -> Page {
    let answer = host.ask(&Question::new(&["sshd", option]))?;
    Ok(page::sorted(answer.told("sshd")?.lines().map(str::to_owned)))
}
