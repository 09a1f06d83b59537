//! Ten thousand altered bits, each of them found, and nothing wrong read meanwhile.

use crate::support::World;

#[test]
fn each_of_ten_thousand_flipped_bits_is_found() {
    let mut world = World::new(7);
    world.has_large = false;
    for _ in 0..2 {
        for _ in 0..40 {
            world.record();
        }
        world.seal();
    }
    world.verify(2).unwrap();
    let name = world.name(2);
    let length = usize::try_from(world.objects.size(&name).unwrap()).unwrap();
    let whole = world.objects.read(&name, 0, length).unwrap();
    let flip = |bit: u64| {
        let mut altered = whole.clone();
        altered[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        world.objects.put(&name, &altered).unwrap();
        assert!(world.verify(2).is_err(), "bit {bit} of {length} bytes");
    };
    // Ends, where every bit means something else, are tried whole.
    let bits = length as u64 * 8;
    let ends = (0..56 * 8).chain(bits - 24 * 8..bits);
    let mut tried = 0;
    for bit in ends {
        flip(bit);
        tried += 1;
    }
    let mut random = crate::support::Random(11);
    while tried < 10_000 {
        flip(random.below(bits));
        tried += 1;
    }
}

#[test]
fn an_object_that_is_cut_or_longer_is_found() {
    let mut world = World::new(8);
    world.record();
    world.seal();
    let name = world.name(1);
    let length = usize::try_from(world.objects.size(&name).unwrap()).unwrap();
    let whole = world.objects.read(&name, 0, length).unwrap();

    for end in 0..length {
        world.objects.put(&name, &whole[..end]).unwrap();
        assert!(world.verify(1).is_err(), "{end} of {length}");
    }
    world.objects.put(&name, &[&whole[..], b"\0"].concat()).unwrap();
    assert!(world.verify(1).is_err());
}
