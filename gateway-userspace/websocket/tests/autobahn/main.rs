//! The Autobahn test suite, the real one: every case that is not about speed, strictly.
//!
//! `cargo xtask test` installs the suite below `target/` and makes it run under today's Python (`convert.py`). Here
//! its client runs against a small server around this package, and its verdict on each case is held to the strictest one
//! that the case can have.

mod echo;
mod suite;

use echo::Travel;
use suite::{CASES, COMPRESSION};

fn run(sections: &[(&str, usize)], travel: Travel) {
    let address = echo::start(travel).unwrap();
    suite::run(sections, &format!("ws://{address}"));
}

#[test]
fn every_case_passes_strictly() {
    run(&CASES, Travel::Stays);
}

/// The connection is moved to another process, as far as the codec can tell, whenever something has arrived.
#[test]
fn every_case_passes_strictly_on_the_move() {
    run(&CASES, Travel::Moves);
}

#[test]
fn every_case_of_compression_passes() {
    run(&COMPRESSION, Travel::Stays);
}

#[test]
fn every_case_of_compression_passes_on_the_move() {
    run(&COMPRESSION, Travel::Moves);
}
