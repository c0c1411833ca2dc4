//! OpenIM's protocol, as unmodified clients and pushers speak it. Pure: bytes in, values out.
//!
//! | module | subject |
//! |---|---|
//! | `message` | the protobuf messages inside frames |
#![forbid(unsafe_code)]

pub mod message;
