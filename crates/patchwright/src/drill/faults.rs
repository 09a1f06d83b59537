//! What may be made to go wrong in a drill, and where it has to end.

use anyhow::{Result, anyhow};
use clap::ValueEnum;
use serde::Serialize;

use crate::failure::helped;

/// Something that goes wrong on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// A patch breaks what the image's profile probes: the lab must reject it, and nobody gets it.
    BadPatch,
    /// The second machine's agent is killed with what it had started, in the middle of its first order.
    AgentDies,
    /// The first machine loses its power in the middle of its order.
    PowerCut,
    /// The first machine hangs when its order comes: the release must be held, and go on afterwards.
    VmHangs,
    /// The control plane is killed while a machine is being patched, and started again.
    ServerKilled,
    /// A machine's clock is two hours ahead: it is not believed until it is right.
    ClockJump,
    /// A thief of an agent's key reports that everything is patched: neither is believed any more.
    ForgedReport,
}

impl Fault {
    /// What has to come of it.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::BadPatch => "rejected by the lab; no tenant is asked, no machine is touched",
            Self::AgentDies | Self::PowerCut => {
                "the machine ends patched or as it was, never in between"
            }
            Self::VmHangs => "the release is held while it is silent, and ends when it is back",
            Self::ServerKilled => "nothing acknowledged is lost; the release goes on",
            Self::ClockJump => {
                "its reports are refused until its clock is right; the release waits"
            }
            Self::ForgedReport => "the agent is quarantined, its machine unknown, never compliant",
        }
    }
}

/// Whether all of these can go wrong in one drill.
///
/// # Errors
/// A patch that is rejected is never taken out: nothing else can go wrong with it.
pub(super) fn compatible(faults: &[Fault]) -> Result<()> {
    if faults.contains(&Fault::BadPatch) && faults.iter().any(|it| *it != Fault::BadPatch) {
        let error =
            anyhow!("after `bad-patch` no machine is touched: the other faults would not happen");
        return Err(helped(error, "have a drill of its own for `--fault bad-patch`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_that_goes_nowhere_leaves_no_room_for_other_faults() {
        assert!(compatible(&[Fault::BadPatch]).is_ok());
        assert!(compatible(&[Fault::ClockJump, Fault::AgentDies, Fault::ServerKilled]).is_ok());
        assert!(compatible(&[Fault::ClockJump, Fault::BadPatch]).is_err());
    }
}
