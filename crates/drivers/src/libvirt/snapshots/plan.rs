//! What to do next with a domain, as it is: pure functions from what is seen to one step.
//!
//! A verb is a loop of looking and stepping, and each step is one command of libvirt's. So it does
//! not matter where an earlier call was stopped: the next one sees how far it came.
//!
//! ```text
//! take    note names ─► snapshot of all disks ─► there
//! revert  prepare fresh overlays, note them ─► destroy ─► define on fresh overlays ─► start ─► note
//! remove  note ─► (off: start with processors standing) ─► commit, pivot each disk ─► note ─► (destroy) ─► note
//! ```

use super::definition::{Definition, Disk, Mirror, Use};
use super::error::Refusal;
use super::notes::{Kept, KeptDisk, MOST_KEPT, MOST_LEFT, Notes, On, Overlay, Power, Task};
use crate::snapshots::SnapshotName;

/// A domain at one look.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// As it will be started next, with our notes.
    pub(super) definition: Definition,
    /// As it runs.
    pub(super) live: Option<Live>,
}

/// A domain that QEMU has open.
#[derive(Debug, Clone)]
pub(super) struct Live {
    pub(super) definition: Definition,
    pub(super) processors: Processors,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Processors {
    Run,
    Stand,
}

/// The next thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// All is as it was asked.
    Done,
    /// Note this, and all is.
    Finish(Notes),
    /// Note this.
    Note(Notes),
    /// Have libvirt put all these disks on their overlays at one instant.
    Snapshot(Kept),
    /// Have fresh overlays made for going back, and note them.
    Prepare { kept: Kept, power: Power },
    /// End the machine at once.
    Destroy,
    /// Put the disks of a machine that is off on other files.
    Switch { disks: Vec<(String, Overlay)>, notes: Notes, then: Then },
    /// Switch the machine on.
    Start,
    /// The same, but its processors stand still.
    StartPaused,
    /// Begin to write what is in one file of a disk into the one below.
    Commit { target: String, base: String, top: String, of: Part },
    /// Go over to the file below.
    Pivot { target: String },
    /// QEMU is at it.
    Wait,
}

/// What follows a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    LookAgain,
    Done,
}

/// Where a file lies that is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The machine writes to it.
    Top,
    /// There is an overlay above it.
    Inner,
}

/// Where a machine's disks are with regard to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stand {
    /// On the files that were to be kept: not taken yet, or merged.
    Below,
    /// On the overlays.
    Above,
    /// This one is on neither, or they differ.
    Odd(String),
}

impl View {
    fn notes(&self) -> &Notes {
        &self.definition.notes
    }

    fn last(&self) -> Option<&Kept> {
        self.notes().kept.last()
    }

    /// The latest, where it was noted and the call was stopped before anything was taken. One that
    /// is being removed looks the same at its end.
    fn never_taken(&self) -> Option<&Kept> {
        self.last().filter(|last| self.stand(last) == Stand::Below)
    }

    /// Of the latest snapshot: only its overlays are what the machine writes to.
    fn stand(&self, kept: &Kept) -> Stand {
        let definitions =
            || std::iter::once(&self.definition).chain(self.live.as_ref().map(|it| &it.definition));
        let at = |disk: &KeptDisk, file: &str| {
            definitions().all(|definition| {
                let found = definition.disk(&disk.target).and_then(Disk::top);
                found.is_some_and(|top| top.file == file)
            })
        };
        if kept.disks.iter().all(|disk| at(disk, &disk.overlay.path())) {
            return Stand::Above;
        }
        if kept.disks.iter().all(|disk| at(disk, &disk.below)) {
            return Stand::Below;
        }
        let odd = kept.disks.iter().find(|disk| !at(disk, &disk.overlay.path()));
        Stand::Odd(odd.map(|disk| disk.target.clone()).unwrap_or_default())
    }

    /// What there is, oldest first.
    pub(super) fn names(&self) -> Vec<SnapshotName> {
        let notes = self.notes();
        let is_there = |kept: &&Kept| {
            let goes = matches!(&notes.task, Some(Task::Merge { name, .. }) if *name == kept.name);
            let is_last = notes.kept.last().is_some_and(|last| last.name == kept.name);
            !(goes || is_last && self.stand(kept) == Stand::Below)
        };
        notes.kept.iter().filter(is_there).map(|kept| kept.name.clone()).collect()
    }

    /// The same notes without one snapshot, whose overlays are nobody's any more. What lies on it
    /// lies on what was below it from now on.
    fn without(&self, name: &SnapshotName) -> Notes {
        let mut notes = self.notes().clone();
        let Some(number) = notes.kept.iter().position(|kept| kept.name == *name) else {
            return notes;
        };
        let gone = notes.kept.remove(number);
        for disk in gone.disks {
            let path = disk.overlay.path();
            for above in notes.kept.iter_mut().flat_map(|kept| &mut kept.disks) {
                if above.below == path {
                    above.below.clone_from(&disk.below);
                    above.format = disk.format;
                }
            }
            notes.waste.push(disk.overlay);
        }
        notes
    }

    fn with_task(&self, task: Option<Task>) -> Notes {
        Notes { task, ..self.notes().clone() }
    }

    fn unfinished(&self) -> Option<Refusal> {
        let task = self.notes().task.as_ref()?;
        Some(Refusal::Unfinished { snapshot: task.name().clone(), verb: task.verb() })
    }
}

/// Towards a snapshot; `random` is made new at each look.
pub(super) fn take(view: &View, name: &SnapshotName, random: u64) -> Result<Step, Refusal> {
    if let Some(unfinished) = view.unfinished() {
        return Err(unfinished);
    }
    let notes = view.notes();
    if let Some(last) = view.last() {
        match (view.stand(last), last.name == *name) {
            (Stand::Odd(target), _) => return Err(Refusal::Moved { target }),
            (Stand::Above, true) => return Ok(Step::Done),
            (Stand::Below, true) => return Ok(Step::Snapshot(last.clone())),
            // Somebody's who was stopped before anything was taken.
            (Stand::Below, false) => return Ok(Step::Note(view.without(&last.name))),
            (Stand::Above, false) => {}
        }
        if notes.kept.iter().any(|kept| kept.name == *name) {
            return Ok(Step::Done);
        }
    }
    if notes.kept.len() == MOST_KEPT || notes.waste.len() > MOST_LEFT {
        return Err(Refusal::TooMany);
    }
    let mut notes = notes.clone();
    notes.kept.push(Kept { name: name.clone(), disks: to_keep(view, name, random)? });
    Ok(Step::Note(notes))
}

/// The disks that the machine writes to, all of them.
fn to_keep(view: &View, name: &SnapshotName, random: u64) -> Result<Vec<KeptDisk>, Refusal> {
    let written = |definition: &Definition| {
        let mut found = Vec::new();
        for disk in &definition.disks {
            match disk.use_ {
                Use::Read => {}
                Use::Unfit(reason) => {
                    return Err(Refusal::Unfit { target: disk.target.clone(), reason });
                }
                Use::Written if disk.mirror.is_some() => {
                    return Err(Refusal::Busy { target: disk.target.clone() });
                }
                Use::Written => found.push((disk.target.clone(), disk.top().cloned())),
            }
        }
        Ok(found)
    };
    let next = written(&view.definition)?;
    if let Some(live) = &view.live
        && written(&live.definition)? != next
    {
        return Err(Refusal::Differs);
    }
    let mut disks = Vec::new();
    for disk in view.definition.disks.iter().filter(|disk| disk.use_ == Use::Written) {
        let unfit = || Refusal::Unfit {
            target: disk.target.clone(),
            reason: "lies where no overlay can lie beside it",
        };
        let below = disk.top().map(|top| top.file.clone()).ok_or_else(unfit)?;
        let format = disk.format().ok_or_else(unfit)?;
        let uuid = &view.definition.uuid;
        let overlay = Overlay::beside(&below, name, uuid, random, &disk.target);
        let overlay = overlay.ok_or_else(unfit)?;
        disks.push(KeptDisk { target: disk.target.clone(), below, format, overlay });
    }
    if disks.is_empty() { Err(Refusal::NoDisks) } else { Ok(disks) }
}

/// Back to a snapshot.
pub(super) fn revert(view: &View, name: &SnapshotName) -> Result<Step, Refusal> {
    match &view.notes().task {
        Some(Task::Start { name: of }) if of == name => {
            let started = view.live.is_some();
            Ok(if started { Step::Finish(view.with_task(None)) } else { Step::Start })
        }
        Some(Task::Revert { name: of, fresh, power }) if of == name => {
            let kept = latest(view, name)?;
            if view.live.is_none() {
                return Ok(switch(view, kept, fresh, *power));
            }
            if *power == Power::Off {
                // Somebody switched it on meanwhile.
                let task =
                    Task::Revert { name: of.clone(), fresh: fresh.clone(), power: Power::On };
                return Ok(Step::Note(view.with_task(Some(task))));
            }
            Ok(Step::Destroy)
        }
        Some(task) => Err(Refusal::Unfinished { snapshot: task.name().clone(), verb: task.verb() }),
        None => {
            if let Some(last) = view.never_taken()
                && last.name != *name
            {
                return Ok(Step::Note(view.without(&last.name)));
            }
            let power = if view.live.is_some() { Power::On } else { Power::Off };
            Ok(Step::Prepare { kept: latest(view, name)?.clone(), power })
        }
    }
}

/// A snapshot on which no other lies, with the disks on its overlays.
fn latest<'a>(view: &'a View, name: &SnapshotName) -> Result<&'a Kept, Refusal> {
    let kept = &view.notes().kept;
    let number = kept.iter().position(|kept| kept.name == *name).ok_or(Refusal::NoSnapshot)?;
    let (found, later) = kept[number..].split_first().ok_or(Refusal::NoSnapshot)?;
    if !later.is_empty() {
        let later = later.iter().map(|kept| kept.name.clone()).collect();
        return Err(Refusal::Later { later });
    }
    match view.stand(found) {
        Stand::Above => Ok(found),
        Stand::Below => Err(Refusal::NoSnapshot),
        Stand::Odd(target) => Err(Refusal::Moved { target }),
    }
}

fn switch(view: &View, kept: &Kept, fresh: &[(String, Overlay)], power: Power) -> Step {
    let mut notes = view.notes().clone();
    for disk in notes.kept.iter_mut().filter(|it| it.name == kept.name).flat_map(|it| &mut it.disks)
    {
        if let Some((_, overlay)) = fresh.iter().find(|(target, _)| *target == disk.target) {
            notes.waste.push(std::mem::replace(&mut disk.overlay, overlay.clone()));
        }
    }
    let (task, then) = match power {
        Power::On => (Some(Task::Start { name: kept.name.clone() }), Then::LookAgain),
        Power::Off => (None, Then::Done),
    };
    notes.task = task;
    Step::Switch { disks: fresh.to_vec(), notes, then }
}

/// Towards a machine without a snapshot.
pub(super) fn remove(view: &View, name: &SnapshotName) -> Result<Step, Refusal> {
    let notes = view.notes();
    let on = match &notes.task {
        Some(Task::Revert { name: of, fresh, .. }) if of == name => {
            let mut notes = view.with_task(None);
            notes.waste.extend(fresh.iter().map(|(_, overlay)| overlay.clone()));
            return Ok(Step::Note(notes));
        }
        Some(Task::Start { name: of }) if of == name => {
            return Ok(Step::Note(view.with_task(None)));
        }
        Some(Task::Merge { name: of, on }) if of == name => Some(*on),
        Some(_) => return view.unfinished().map_or(Ok(Step::Done), Err),
        None => None,
    };
    let Some(number) = notes.kept.iter().position(|kept| kept.name == *name) else {
        let stands = view.live.as_ref().is_some_and(|it| it.processors == Processors::Stand);
        return Ok(match on {
            None => Step::Done,
            Some(On::Paused) if stands => Step::Destroy,
            Some(_) => Step::Finish(view.with_task(None)),
        });
    };
    let kept = &notes.kept[number];
    let is_last = number + 1 == notes.kept.len();
    if let Some(last) = view.never_taken()
        && last.name != *name
    {
        return Ok(Step::Note(view.without(&last.name)));
    }
    if on.is_none() && is_last && view.stand(kept) == Stand::Below {
        return Ok(Step::Finish(view.without(name)));
    }
    let merge = |on| Step::Note(view.with_task(Some(Task::Merge { name: name.clone(), on })));
    match (&view.live, on) {
        (None, Some(On::Paused)) => Ok(Step::StartPaused),
        (None, _) => Ok(merge(On::Paused)),
        (Some(_), None) => Ok(merge(On::Running)),
        // Somebody let it run: it is not ours to end any more.
        (Some(live), Some(On::Paused)) if live.processors == Processors::Run => {
            Ok(merge(On::Running))
        }
        (Some(live), Some(_)) => {
            for disk in &kept.disks {
                if let Some(step) = merge_disk(live, disk, is_last)? {
                    return Ok(step);
                }
            }
            Ok(Step::Note(view.without(name)))
        }
    }
}

/// The next step for one disk; none where it is merged.
fn merge_disk(live: &Live, kept: &KeptDisk, is_last: bool) -> Result<Option<Step>, Refusal> {
    let target = kept.target.clone();
    let moved = || Refusal::Moved { target: kept.target.clone() };
    let disk = live.definition.disk(&kept.target).ok_or_else(moved)?;
    let (top, base) = (kept.overlay.path(), kept.below.clone());
    match (disk.lies_on(&top), disk.lies_on(&base)) {
        (false, true) => return Ok(None),
        (true, true) => {}
        _ => return Err(moved()),
    }
    let is_top = disk.top().is_some_and(|layer| layer.file == top);
    if is_top != is_last {
        return Err(moved());
    }
    Ok(Some(match (disk.mirror, is_last) {
        (None, true) => Step::Commit { target, base, top, of: Part::Top },
        (None, false) => Step::Commit { target, base, top, of: Part::Inner },
        (Some(Mirror::Ready), true) => Step::Pivot { target },
        (Some(Mirror::Behind), true) => Step::Wait,
        (Some(_), false) => return Err(Refusal::Busy { target }),
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::definition::Layer;
    use super::super::notes::Format;
    use super::*;

    const MACHINE: &str = "01de6d04-5ee2-4379-a8fb-7931c8e956cb";
    const TARGETS: [&str; 2] = ["vda", "vdb"];
    /// Longer than any verb takes with two disks.
    const LONGEST: usize = 40;

    /// A hypervisor as far as it matters here: files that lie on files, and what was written last.
    struct World {
        files: BTreeMap<String, (Option<String>, Option<u8>)>,
        tops: BTreeMap<&'static str, String>,
        mirrors: BTreeMap<&'static str, Mirror>,
        notes: Notes,
        power: Option<Processors>,
        made: u64,
        /// What the machine wrote last, and what it had written when a snapshot was taken.
        written: u8,
        kept: BTreeMap<SnapshotName, u8>,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Verb {
        Take,
        Revert,
        Remove,
    }

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Write(u8),
        /// Off, on, or let run what stands still.
        Button,
        /// So many steps; then the process is killed.
        Ask(Verb, u8, usize),
    }

    fn name(number: u8) -> SnapshotName {
        SnapshotName::new(&number.to_string()).unwrap()
    }

    fn target(name: &str) -> &'static str {
        TARGETS.into_iter().find(|target| *target == name).unwrap()
    }

    impl World {
        fn new() -> Self {
            let base = |target: &&'static str| (*target, format!("/{target}.raw"));
            let tops: BTreeMap<_, _> = TARGETS.iter().map(base).collect();
            Self {
                files: tops.values().map(|file| (file.clone(), (None, Some(0)))).collect(),
                tops,
                mirrors: BTreeMap::new(),
                notes: Notes::default(),
                power: None,
                made: 0,
                written: 0,
                kept: BTreeMap::new(),
            }
        }

        fn view(&self) -> View {
            let disk = |target: &&'static str| {
                let mut layers = Vec::new();
                let mut file = Some(self.tops[target].clone());
                while let Some(path) = file.take() {
                    let (below, _) = &self.files[&path];
                    let format = if below.is_some() { "qcow2" } else { "raw" };
                    file.clone_from(below);
                    layers.push(Layer { file: path, format: format.to_owned() });
                }
                let mirror = self.mirrors.get(target).copied();
                Disk { target: (*target).to_owned(), use_: Use::Written, layers, mirror }
            };
            let definition = Definition {
                name: "web".to_owned(),
                uuid: MACHINE.to_owned(),
                runs: self.power.is_some(),
                disks: TARGETS.iter().map(disk).collect(),
                notes: self.notes.clone(),
                hears_agent: false,
            };
            let live =
                self.power.map(|processors| Live { definition: definition.clone(), processors });
            View { definition, live }
        }

        fn read(&self, file: &str) -> u8 {
            let (below, content) = &self.files[file];
            content.unwrap_or_else(|| self.read(below.as_deref().unwrap()))
        }

        fn write(&mut self, value: u8) {
            for top in self.tops.values() {
                self.files.get_mut(top).unwrap().1 = Some(value);
            }
            self.written = value;
        }

        fn press(&mut self) {
            self.power = match self.power {
                Some(Processors::Run) => None,
                _ => Some(Processors::Run),
            };
            if self.power.is_none() {
                self.mirrors.clear();
            }
        }

        fn next(&self, verb: Verb, name: &SnapshotName) -> Result<Step, Refusal> {
            let view = self.view();
            match verb {
                Verb::Take => take(&view, name, self.made),
                Verb::Revert => revert(&view, name),
                Verb::Remove => remove(&view, name),
            }
        }

        fn lay(&mut self, overlay: &Overlay, over: String) {
            let laid = self.files.insert(overlay.path(), (Some(over), None));
            assert!(laid.is_none(), "{overlay:?} was there");
        }

        /// Whether all is done.
        fn step(&mut self, step: Step) -> bool {
            self.made += 1;
            match step {
                Step::Done => return true,
                Step::Finish(notes) => {
                    self.notes = notes;
                    return true;
                }
                Step::Note(notes) => self.notes = notes,
                Step::Snapshot(kept) => {
                    for disk in &kept.disks {
                        let target = target(&disk.target);
                        self.lay(&disk.overlay, self.tops[target].clone());
                        self.tops.insert(target, disk.overlay.path());
                    }
                    self.kept.insert(kept.name, self.written);
                }
                Step::Prepare { kept, power } => {
                    let mut fresh = Vec::new();
                    for disk in &kept.disks {
                        let overlay = Overlay::beside(
                            &disk.below,
                            &kept.name,
                            MACHINE,
                            self.made,
                            &disk.target,
                        );
                        self.lay(overlay.as_ref().unwrap(), disk.below.clone());
                        fresh.push((disk.target.clone(), overlay.unwrap()));
                    }
                    self.notes.task = Some(Task::Revert { name: kept.name, fresh, power });
                }
                Step::Destroy => {
                    assert!(self.mirrors.is_empty());
                    self.power = None;
                }
                Step::Switch { disks, notes, then } => {
                    assert_eq!(self.power, None);
                    let Some(Task::Revert { name, .. }) = &self.notes.task else { panic!() };
                    self.written = self.kept[name];
                    self.notes = notes;
                    for (disk, overlay) in disks {
                        self.tops.insert(target(&disk), overlay.path());
                    }
                    return then == Then::Done;
                }
                Step::Start => self.power = Some(Processors::Run),
                Step::StartPaused => self.power = Some(Processors::Stand),
                Step::Commit { target: disk, base, top, of } => {
                    assert!(self.power.is_some());
                    // What is below alters at once.
                    let content = self.read(&top);
                    self.files.get_mut(&base).unwrap().1 = Some(content);
                    if of == Part::Top {
                        self.mirrors.insert(target(&disk), Mirror::Behind);
                    } else {
                        for (below, _) in self.files.values_mut() {
                            if below.as_deref() == Some(&top) {
                                *below = Some(base.clone());
                            }
                        }
                    }
                }
                Step::Wait => {
                    self.mirrors.values_mut().for_each(|mirror| *mirror = Mirror::Ready);
                }
                Step::Pivot { target: disk } => {
                    let target = target(&disk);
                    assert_eq!(self.mirrors.remove(target), Some(Mirror::Ready));
                    let top = self.tops[target].clone();
                    let content = self.read(&top);
                    let below = self.files[&top].0.clone().unwrap();
                    self.files.get_mut(&below).unwrap().1 = Some(content);
                    self.tops.insert(target, below);
                }
            }
            false
        }

        /// What must hold at any time, whatever was stopped where.
        fn check(&self) {
            for top in self.tops.values() {
                assert_eq!(self.read(top), self.written);
            }
            let view = self.view();
            let names = view.names();
            for kept in view.definition.notes.kept.iter().filter(|it| names.contains(&it.name)) {
                for disk in &kept.disks {
                    assert_eq!(self.read(&disk.below), self.kept[&kept.name], "{}", kept.name);
                }
            }
            for waste in &self.notes.waste {
                let is_used = view.definition.disks.iter().any(|it| it.lies_on(&waste.path()));
                assert!(!is_used, "{waste:?}");
            }
        }

        /// Asks until it is done or refused.
        fn ask(&mut self, verb: Verb, name: &SnapshotName, steps: usize) -> Result<bool, Refusal> {
            for number in 0..=LONGEST {
                assert!(number < LONGEST, "{verb:?} does not end");
                if number == steps {
                    break;
                }
                let step = self.next(verb, name)?;
                let is_done = self.step(step);
                self.check();
                if is_done {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let verb = prop_oneof![Just(Verb::Take), Just(Verb::Revert), Just(Verb::Remove)];
        let steps = prop_oneof![0..12_usize, Just(LONGEST)];
        let act = prop_oneof![
            2 => (1..=u8::MAX).prop_map(Act::Write),
            1 => Just(Act::Button),
            4 => (verb, 0..3_u8, steps).prop_map(|(verb, name, steps)| Act::Ask(verb, name, steps)),
        ];
        proptest::collection::vec(act, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn nothing_kept_is_altered_and_nothing_written_is_lost_wherever_it_is_stopped(
            acts in acts(),
        ) {
            let mut world = World::new();
            for act in acts {
                match act {
                    Act::Write(value) => world.write(value),
                    Act::Button => world.press(),
                    Act::Ask(verb, number, steps) => {
                        let name = name(number);
                        let is_fresh = world.notes.task.is_none();
                        let ran = world.power;
                        let done = world.ask(verb, &name, steps);
                        if done == Ok(true) {
                            let is_there = world.view().names().contains(&name);
                            prop_assert_eq!(is_there, verb != Verb::Remove);
                            prop_assert!(world.notes.task.is_none());
                            if verb == Verb::Revert && is_fresh {
                                prop_assert_eq!(world.written, world.kept[&name]);
                            }
                            if is_fresh {
                                prop_assert_eq!(world.power.is_some(), ran.is_some());
                            }
                        }
                    }
                }
                world.check();
            }

            // Whatever was begun can be finished, and all given up.
            if let Some(task) = world.notes.task.clone() {
                let verb = if matches!(task, Task::Merge { .. }) { Verb::Remove } else { Verb::Revert };
                prop_assert_eq!(world.ask(verb, task.name(), LONGEST), Ok(true));
            }
            for number in 0..3 {
                prop_assert_eq!(world.ask(Verb::Remove, &name(number), LONGEST), Ok(true));
            }
            prop_assert!(world.notes.kept.is_empty());
            let bases: Vec<_> = world.tops.values().map(String::as_str).collect();
            prop_assert_eq!(bases, ["/vda.raw", "/vdb.raw"]);
        }
    }

    #[test]
    fn an_older_snapshot_and_a_disk_on_another_file_are_refused() {
        let mut world = World::new();
        world.ask(Verb::Take, &name(1), LONGEST).unwrap();
        world.ask(Verb::Take, &name(2), LONGEST).unwrap();
        let later = world.next(Verb::Revert, &name(1)).unwrap_err();
        assert_eq!(later, Refusal::Later { later: vec![name(2)] });
        assert_eq!(world.next(Verb::Revert, &name(3)), Err(Refusal::NoSnapshot));

        world.files.insert("/theirs".to_owned(), (None, Some(1)));
        world.tops.insert("vdb", "/theirs".to_owned());
        let moved = Err(Refusal::Moved { target: "vdb".to_owned() });
        assert_eq!(world.next(Verb::Revert, &name(2)), moved);
        assert_eq!(world.next(Verb::Take, &name(3)), moved);
    }

    #[test]
    fn all_disks_can_be_kept_or_none() {
        let world = World::new();
        let mut view = world.view();
        view.definition.disks[1].use_ = Use::Unfit("is shared with other machines");
        let unfit = take(&view, &name(1), 0).unwrap_err();
        assert!(unfit.to_string().contains("vdb"), "{unfit}");

        let mut view = world.view();
        view.definition.disks[1].use_ = Use::Read;
        let Ok(Step::Note(notes)) = take(&view, &name(1), 0) else { panic!() };
        assert_eq!(notes.kept[0].disks.len(), 1);
        assert_eq!(notes.kept[0].disks[0].format, Format::Raw);

        view.definition.disks[0].mirror = Some(Mirror::Behind);
        assert_eq!(take(&view, &name(1), 0), Err(Refusal::Busy { target: "vda".to_owned() }));
    }

    #[test]
    fn a_machine_that_runs_with_other_disks_than_it_will_have_is_refused() {
        let mut world = World::new();
        world.press();
        let mut view = world.view();
        view.definition.disks.pop();
        assert_eq!(take(&view, &name(1), 0), Err(Refusal::Differs));
    }
}
