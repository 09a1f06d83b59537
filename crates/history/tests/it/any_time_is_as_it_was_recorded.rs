//! Whatever is sealed, taken by retention or erased: each time that is asked for is answered as it was recorded.

use crate::support::{Answer, World};

/// Questions in all.
const QUESTIONS: usize = 50_000;

#[test]
fn as_of_equals_replay_through_sealing_retention_and_erasure() {
    let (mut asked, mut seed) = (0, 1);
    let mut answers = [0_usize; 4];
    while asked < QUESTIONS {
        let mut world = World::new(seed);
        let begin = world.now;
        for step in 0..120 {
            match world.random.below(100) {
                0..80 => world.record(),
                80..92 => world.seal(),
                92..96 => {
                    let length = (world.now - begin).max(1).cast_unsigned();
                    let before = begin + world.random.below(length).cast_signed();
                    world.forget(before);
                }
                _ => {
                    let number = 1 + world.random.below(12);
                    world.erase(number);
                }
            }
            for _ in 0..50 {
                let file = world.random_file();
                let length = (world.now - begin + 10).cast_unsigned();
                let time = begin + world.random.below(length).cast_signed();
                let answer = world.at(&file, time);
                let expected = world.expected(&file, time);
                assert!(
                    answer == expected,
                    "seed {seed}, step {step}, {file:?} at {time}:\n{answer:?}\n{expected:?}"
                );
                answers[match answer {
                    Answer::Content(_) => 0,
                    Answer::Absent => 1,
                    Answer::Erased => 2,
                    Answer::Forgotten => 3,
                }] += 1;
                asked += 1;
            }
        }
        for number in world.partitions() {
            world.verify(number).unwrap_or_else(|error| panic!("seed {seed}, {number}: {error}"));
        }
        seed += 1;
    }
    assert!(answers.iter().all(|&it| it > QUESTIONS / 100), "{answers:?}");
}

#[test]
fn lists_are_what_was_recorded() {
    let mut world = World::new(99);
    for _ in 0..600 {
        world.record();
    }
    world.seal();
    let partition = world.open(1).unwrap();
    let mut files = 0;
    for (file, versions) in &world.oracle {
        let found = partition.versions(file.0, &file.1).unwrap();
        let recorded: Vec<_> = found.iter().map(|found| found.version.recorded).collect();
        assert_eq!(recorded, versions.iter().map(|(at, _)| *at).collect::<Vec<_>>());
        let of_item = partition.item(file.0).unwrap();
        assert_eq!(of_item.iter().find(|(path, _)| *path == file.1).unwrap().1, found);
        files += 1;
    }
    assert_eq!(files, 4 * 36);
}

/// Files of which few lines alter need a fraction of what they need alone, also across partitions.
#[test]
fn a_history_of_small_edits_is_small() {
    let mut world = World::new(5);
    let (mut size, mut bytes) = (Vec::new(), Vec::new());
    for number in 1..=8 {
        for _ in 0..150 {
            world.record();
        }
        world.seal();
        bytes.push(world.verify(number).unwrap().bytes);
        size.push(world.objects.size(&world.name(number)).unwrap());
    }
    let contents = world.oracle.values().flatten();
    let plain: u64 = contents.filter_map(|(_, it)| Some(it.as_ref()?.len() as u64)).sum();
    assert!(size.iter().sum::<u64>() * 10 < plain, "{size:?} of {plain}");
    // Also the last partition, in which no file has more than a few versions.
    assert!(size[7] * 5 < bytes[7], "{size:?} of {bytes:?}");
}
