#![no_main]
//! ext filesystems: superblock, journal, inodes, extents, directories, links.
libfuzzer_sys::fuzz_target!(|data: &[u8]| inspect::fuzzing::ext4(data));
