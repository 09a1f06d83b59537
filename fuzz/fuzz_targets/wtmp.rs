//! A host's `wtmp`: each session is one line, and is read back from it.
#![no_main]

use domain::configuration::login::{Layout, Login, sessions};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for layout in [Layout::Short, Layout::Long] {
        for login in sessions(data, layout) {
            let line = login.to_string();
            assert_eq!(line.lines().count(), 1);
            assert_eq!(line.parse::<Login>(), Ok(login));
        }
    }
});
