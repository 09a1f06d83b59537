//! Any bytes as apt's configuration: sources are complete or refused with their place.
#![no_main]

use std::collections::BTreeMap;

use collect::apt::config;
use domain::apt_conf::{AptConf, ETC_APT};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for path in ["/etc/apt/a.list", "/etc/apt/a.sources", "/etc/apt/a"] {
        let files = BTreeMap::from([(path.to_owned(), data.to_vec())]);
        match config::read_sources_file(&files, path, ETC_APT) {
            Ok(sources) => {
                for source in sources {
                    assert!(!source.suite.is_empty());
                    assert!(source.suite.ends_with('/') || !source.components.is_empty());
                    assert!(source.place.contains(path));
                    source.public_uri();
                }
            }
            Err(error) => assert!(error.to_string().contains(path)),
        }
    }
    let mut conf = AptConf::default();
    conf.add(&String::from_utf8_lossy(data));
    conf.proxy("http", "archive.example.org");
});
