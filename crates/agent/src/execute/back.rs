//! The way back: kept before anything is altered, gone where something failed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use domain::change::{Action, ExactPackage};
use domain::order::{Ended, Refusal};

use super::executor::{Executor, Run, replaced};
use super::files::{FileFault, KeptFile};
use super::journal::{Step, sync_up};
use super::packages::{
    Alteration, Completeness, Direction, Found, KeptPackage, Newer, PackageFault,
};
use super::progress::{Progress, WayBack};
use super::space;

/// How often the way back is taken up again before somebody has to look. More often than an action is: what
/// it leaves is worse.
const MOST_RETURNS: u32 = 10;

impl Executor<'_> {
    /// Makes package files of what is replaced, and copies of its configuration files and of those that are
    /// written.
    pub(super) fn keep_way_back(
        &self,
        actions: &[Action],
        packages: &[ExactPackage],
        installed: &[Found],
        old: &[Found],
    ) -> Result<Step, Refusal> {
        let back = self.back_packages();
        let name = old.first().map_or_else(|| "nothing".to_owned(), |found| found.name.clone());
        let lost = |package: &str, because: String| Refusal::NoWayBack {
            package: package.to_owned(),
            because,
        };
        let disk = |error: io::Error| lost(&name, error.to_string());
        fs::create_dir_all(&back).map_err(disk)?;
        // What is unpacked anew stands beside the old until all of it is there.
        let mut unpacked = 0_u64;
        for package in packages {
            let size = self.packages.unpacked_size(&self.place(package));
            let size = size.map_err(|fault| Refusal::NotFetched {
                package: Box::new(package.clone()),
                because: fault.to_string(),
            })?;
            unpacked = unpacked.saturating_add(size);
        }
        // What goes back is kept unpacked, and is as large as the new packages, more or less.
        let root = self.packages.unpacks_to();
        let wants = [(root.as_path(), unpacked), (back.as_path(), unpacked)];
        space::check(&wants, (self.owner)()?.keep_free_mib)?;
        let mut kept = Vec::with_capacity(old.len());
        for found in old {
            let fault = |fault: PackageFault| lost(&found.name, told(&fault));
            let file = self.packages.repack(found, &back).map_err(fault)?;
            let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Found { name, architecture, version, .. } = found.clone();
            kept.push(KeptPackage { name, architecture, version, file });
        }
        self.packages.keep_settings(old, &back).map_err(|fault| lost(&name, told(&fault)))?;
        let files = self.keep_files(actions)?;
        sync_up(&back).map_err(disk)?;
        let is_new = |package: &&ExactPackage| {
            replaced(installed, std::slice::from_ref(*package)).is_empty()
        };
        let added = packages.iter().filter(is_new).cloned().collect();
        Ok(Step::WayBackKept { packages: kept, added, files, units: self.system.times() })
    }

    /// Each of them once, as it is before anything is done.
    fn keep_files(&self, actions: &[Action]) -> Result<Vec<KeptFile>, Refusal> {
        let paths: BTreeSet<_> = actions.iter().filter_map(written).collect();
        let keep = |(place, path): (usize, &str)| {
            self.files.keep(path, &self.back_packages(), format!("file-{place}"))
        };
        let kept = paths.into_iter().enumerate().map(keep).collect::<Result<_, _>>();
        kept.map_err(FileFault::into_refusal)
    }

    /// Takes back what was done, once something failed.
    pub(super) fn turn_back(
        &self,
        run: &Run<'_>,
        action: usize,
        because: String,
    ) -> io::Result<Ended> {
        let progress = run.progress();
        if progress.turned_back.is_none() {
            run.add(Step::TurnedBack { because: because.clone(), action })?;
        }
        let Some(way_back) = &progress.way_back else { return Ok(Ended::RolledBack { because }) };
        if progress.returns > MOST_RETURNS {
            let because = format!(
                "{because}; and the way back was tried {MOST_RETURNS} times, and never ended"
            );
            return Ok(Ended::Stuck { because });
        }
        if !progress.packages().is_empty()
            && let Err(fault) = self.go_back(way_back, &progress)
        {
            let because = format!("{because}; and the way back failed: {}", told(&fault));
            return Ok(Ended::Stuck { because });
        }
        // After the packages, which may have left theirs in the place of one.
        if let Err(fault) = self.give_files_back(way_back, &progress) {
            let because = format!("{because}; and the way back failed: {}", told(&fault));
            return Ok(Ended::Stuck { because });
        }
        for unit in &progress.restarted {
            // What was replaced twice is mapped by nobody but those that started in between.
            if let Err(error) = self.system.restart(unit) {
                let because = format!("{because}; and `{unit}` did not restart: {error}");
                return Ok(Ended::Stuck { because });
            }
        }
        Ok(Ended::RolledBack { because })
    }

    /// What was not begun to be written is left alone.
    fn give_files_back(&self, way_back: &WayBack, progress: &Progress) -> Result<(), FileFault> {
        let written = progress.written();
        for kept in &way_back.files {
            let Some(ours) = written.get(kept.path.as_str()) else { continue };
            self.files.give_back(kept, &self.back_packages(), ours)?;
        }
        Ok(())
    }

    fn go_back(&self, way_back: &WayBack, progress: &Progress) -> Result<(), PackageFault> {
        let ordered = progress.packages();
        // It may fail for the very package that is about to go.
        let repaired = self.packages.repair();
        let back = self.back_packages();
        self.mend(&ordered, &self.packages.installed()?);
        let installed = self.packages.installed()?;
        let others = altered_by_others(&installed, way_back, &ordered);
        if !others.is_empty() {
            return Err(PackageFault::Altered { packages: others });
        }
        let files: Vec<_> = way_back.packages.iter().map(|kept| back.join(&kept.file)).collect();
        if !is_as_before(&installed, way_back) {
            let was_added = |found: &&Found| way_back.added.iter().any(|it| is_it(found, it));
            let remove: Vec<_> = installed.iter().filter(was_added).cloned().collect();
            let direction = Direction::Back;
            self.packages.alter(&Alteration { direction, files: &files, remove: &remove })?;
        } else if repaired.is_err() {
            repaired?;
        }
        if progress.interruptions > 0 && !way_back.added.is_empty() {
            self.packages.clear(&way_back.added)?;
        }
        self.packages.restore_settings(&back)?;
        if progress.interruptions > 0 {
            self.packages.settle(&files)?;
            // What that left beside them.
            self.packages.restore_settings(&back)?;
        }
        self.packages.audit()?;
        let installed = self.packages.installed()?;
        if is_as_before(&installed, way_back) {
            return Ok(());
        }
        let packages = way_back.packages.iter().map(|it| format!("{} {}", it.name, it.version));
        Err(PackageFault::InPart { packages: packages.collect() })
    }

    /// What was ordered and is unpacked in part is unpacked whole before it goes: else files stay that only
    /// it has.
    fn mend(&self, ordered: &[ExactPackage], installed: &[Found]) {
        let is_torn = |package: &&ExactPackage| {
            let found = replaced(installed, std::slice::from_ref(*package));
            found.iter().any(|it| it.completeness == Completeness::Torn)
        };
        let is_ours = |package: &&ExactPackage| self.check_file(package).is_ok();
        let torn: Vec<_> = ordered.iter().filter(is_torn).filter(is_ours).collect();
        let files: Vec<_> = torn.into_iter().map(|package| self.place(package)).collect();
        if !files.is_empty()
            && let Err(fault) = self.packages.mend(&files)
        {
            // The way back overwrites it, or takes it away, all the same.
            eprintln!("warning: {fault}");
        }
    }

    pub(super) fn back_packages(&self) -> PathBuf {
        self.directory.join("back")
    }
}

/// The file that an action alters.
pub(super) fn written(action: &Action) -> Option<&str> {
    match action {
        Action::AlterFile { path, .. } => Some(path),
        _ => None,
    }
}

/// What has another version than it had and than was ordered: somebody else installed it meanwhile, and
/// nothing is made older than that.
fn altered_by_others(
    installed: &[Found],
    way_back: &WayBack,
    ordered: &[ExactPackage],
) -> Vec<String> {
    let is_ours = |found: &Found| {
        let is_it = |name: &str, architecture: &str, version: &str| {
            found.name == name && found.architecture == architecture && found.version == version
        };
        way_back.packages.iter().any(|it| is_it(&it.name, &it.architecture, &it.version))
            || ordered.iter().any(|it| is_it(&it.name, &it.architecture, &it.version))
    };
    let was_replaced = |found: &&Found| {
        let mut kept = way_back.packages.iter();
        kept.any(|it| it.name == found.name && it.architecture == found.architecture)
    };
    let others = installed.iter().filter(was_replaced).filter(|found| !is_ours(found));
    others.map(|found| format!("{} {}", found.name, found.version)).collect()
}

/// Whether all is installed that was, in its version, and nothing that was added.
pub(super) fn is_as_before(installed: &[Found], way_back: &WayBack) -> bool {
    let is_back = |kept: &KeptPackage| {
        let mut same = installed
            .iter()
            .filter(|it| it.name == kept.name && it.architecture == kept.architecture)
            .filter(|it| it.newer == Newer::Replaces || it.version == kept.version);
        let found = same.next();
        // Where an interruption left two versions of it, neither is the one that was there.
        same.next().is_none()
            && found.is_some_and(|it| {
                it.version == kept.version && it.completeness == Completeness::Whole
            })
    };
    let is_gone = |package: &ExactPackage| !installed.iter().any(|found| is_it(found, package));
    way_back.packages.iter().all(is_back) && way_back.added.iter().all(is_gone)
}

fn is_it(found: &Found, package: &ExactPackage) -> bool {
    found.name == package.name
        && found.architecture == package.architecture
        && found.version == package.version
}

pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::execute::packages::Hold;

    fn found(name: &str, version: &str) -> Found {
        let (completeness, hold, newer) = (Completeness::Whole, Hold::Free, Newer::Replaces);
        let [name, architecture, version] = [name, "amd64", version].map(str::to_owned);
        Found { name, architecture, version, completeness, hold, newer }
    }

    #[test]
    fn a_version_that_is_neither_the_old_nor_the_ordered_one_is_somebody_elses() {
        let kept = |name: &str| KeptPackage {
            name: name.to_owned(),
            architecture: "amd64".to_owned(),
            version: "1".to_owned(),
            file: format!("{name}.deb"),
        };
        let way_back = WayBack {
            packages: vec![kept("a"), kept("b")],
            added: Vec::new(),
            files: Vec::new(),
            units: crate::execute::system::UnitTimes::new(),
        };
        let ordered = ["a", "b"].map(|name| ExactPackage {
            name: name.to_owned(),
            architecture: "amd64".to_owned(),
            version: "2".to_owned(),
            sha256: [0; 32].into(),
        });
        let others = |installed: &[Found]| altered_by_others(installed, &way_back, &ordered);

        assert_eq!(others(&[found("a", "1"), found("b", "2"), found("c", "9")]), [""; 0]);
        assert_eq!(others(&[found("b", "2")]), [""; 0], "one that is gone can come back");
        assert_eq!(others(&[found("a", "3"), found("b", "1")]), ["a 3"]);
    }
}
