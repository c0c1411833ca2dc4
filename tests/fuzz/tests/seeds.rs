//! Every seed, and every input that once found a fault, does no harm.

use std::{fs, path::Path};

use ringsteer_fuzz::TARGETS;

#[test]
fn seeds_do_no_harm_and_are_of_use() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for target in TARGETS {
        let mut good = 0;
        for entry in fs::read_dir(folder.join(target.name)).unwrap_or_else(|_| panic!("no seeds for {}", target.name)) {
            let path = entry.unwrap().path();
            println!("{}", path.display());
            good += usize::from((target.run)(&fs::read(&path).unwrap()));
        }
        assert!(good > 0, "no seed shows {} anything to go by", target.name);
    }
}

#[test]
fn no_seed_is_left_over() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "there is no target {name}");
    }
}

/// What a fuzzer tries first, without its help.
#[test]
fn short_and_plain_inputs_do_no_harm() {
    for target in TARGETS {
        (target.run)(&[]);
        for byte in 0..=u8::MAX {
            (target.run)(&[byte]);
            (target.run)(&[byte; 300]);
        }
    }
}
