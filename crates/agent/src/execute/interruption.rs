//! Where an interruption may come, so that tests can make it come there.

/// An interruption may come here. It leaves what is on the disk as it is.
#[cfg(not(test))]
pub(super) const fn may_end_here() {}

#[cfg(test)]
pub(super) use deaths::may_end_here;

#[cfg(test)]
pub(super) mod deaths {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        /// At how many places it goes on yet; for ever, where it is none.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// What ends by an interruption unwinds with it.
    struct Interrupted;

    pub(in super::super) fn may_end_here() {
        match LEFT.get() {
            None => {}
            Some(0) => {
                LEFT.set(None);
                resume_unwind(Box::new(Interrupted));
            }
            Some(left) => LEFT.set(Some(left - 1)),
        }
    }

    /// Does something that is interrupted at this place, counted from 0; `None` where it was.
    pub(in super::super) fn until<T>(place: u32, act: impl FnOnce() -> T) -> Option<T> {
        LEFT.set(Some(place));
        let done = catch_unwind(AssertUnwindSafe(act));
        LEFT.set(None);
        match done {
            Ok(done) => Some(done),
            Err(payload) if payload.is::<Interrupted>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }
}
