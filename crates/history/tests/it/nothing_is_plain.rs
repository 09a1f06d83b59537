//! Neither contents nor names can be read from an object; commitments can, and still agree, without a key.

use std::sync::Arc;

use history::{FilePath, Item, roll};

use crate::support::World;

#[test]
fn neither_contents_nor_names_are_plain() {
    let mut world = World::new(3);
    let file = (Item([1; 16]), FilePath::new("/etc/canary-of-a-name").unwrap());
    // Random letters do not compress: they would stand in a frame as they are.
    let canary = "qzjxkvbwyphgfumcldrtnsaioe0193";
    world.put(file, Some(Arc::from(canary.as_bytes())));
    world.seal();
    let name = world.name(1);
    let length = usize::try_from(world.objects.size(&name).unwrap()).unwrap();
    let object = world.objects.read(&name, 0, length).unwrap();

    for text in [canary, "canary-of-a-name", "root:adm", "uid 1000", "agent"] {
        assert!(!object.windows(text.len()).any(|it| it == text.as_bytes()), "{text}");
    }
}

#[test]
fn commitments_are_there_without_a_key() {
    let mut world = World::new(4);
    for _ in 0..20 {
        world.record();
    }
    world.seal();
    let with_key = world.open(1).unwrap().commitments().unwrap();

    let (without, digest) = roll(&*world.objects, &world.name(1)).unwrap();

    assert_eq!(without, with_key);
    let length = usize::try_from(world.objects.size(&world.name(1)).unwrap()).unwrap();
    let object = world.objects.read(&world.name(1), 0, length).unwrap();
    assert!(without.len() > 10 && object.len() > 1000);
    assert_ne!(digest, [0; 32]);
}
