//! Where state is kept when nobody says where.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::failure::helped;

/// `$XDG_DATA_HOME/patchwright`, or its default below the home directory.
pub(crate) fn data_directory() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| Some(set("HOME")?.join(".local/share")))
        .map(|base| base.join("patchwright"))
        .ok_or_else(|| {
            helped(anyhow::anyhow!("there is no home directory to keep state in"), "use --data DIR")
        })
}
