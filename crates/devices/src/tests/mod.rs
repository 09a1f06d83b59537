//! Devices as their vendors describe what they print (`transcripts/*.txt`), played back: to the session alone, cut
//! into pieces from a seed, and over real SSH.

mod over_ssh;
mod sessions;
mod transcript;
