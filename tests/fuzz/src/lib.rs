//! What bytes from strangers must not do to the parsers.
//!
//! Each target takes any bytes, gives them to a parser, and panics if a rule is broken: that nothing panics, that limits
//! hold, that what was read can be written and is read again as the same, and that two accounts of the same bytes agree.
//! `cargo xtask fuzz` has libFuzzer look for such bytes, led by the branches that they take; the tests of this package
//! run what is kept in `seeds/`, where every find goes too.
//!
//! | file | targets |
//! |---|---|
//! | `handshake` | `handshake`: the head of a request, its key, and what it leads to; `proxy`: what a proxy says before it |
//! | `frames` | `frames`: a client's frames; `snapshot`: a connection as another node sends it |
//! | `push` | `push`: a request with a body; `batch`: that of a push to many users; `answer`: what a gateway says to it |
//! | `openim` | `login`, `gob`, `json`, `gzip`, `text` |

mod frames;
mod handshake;
mod openim;
mod push;

/// Something to be fuzzed.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also that of its folder in `seeds/`.
    pub name: &'static str,
    /// Takes any bytes, and tells whether they were good ones.
    pub run: fn(&[u8]) -> bool,
}

/// All there are.
pub const TARGETS: [Target; 12] = [
    Target { name: "handshake", run: handshake::handshake },
    Target { name: "proxy", run: handshake::header },
    Target { name: "frames", run: frames::frames },
    Target { name: "snapshot", run: frames::snapshot },
    Target { name: "push", run: push::push },
    Target { name: "batch", run: push::batch },
    Target { name: "answer", run: push::answer },
    Target { name: "login", run: openim::login },
    Target { name: "gob", run: openim::gob },
    Target { name: "json", run: openim::json },
    Target { name: "gzip", run: openim::gzip },
    Target { name: "text", run: openim::text },
];
