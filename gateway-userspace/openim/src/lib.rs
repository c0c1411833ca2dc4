//! OpenIM's protocol, as unmodified clients and pushers speak it. Pure: bytes in, values out.
//!
//! | module | subject |
//! |---|---|
//! | `platform` | what users log in from |
//! | `login` | the request that logs a client in |
//! | `token` | who a client is, and for how long |
//! | `policy` | who may be logged in at the same time |
//! | `dispatch` | what a client's messages mean once it is logged in |
//! | `error` | what clients are told when something is wrong |
//! | `frame` | requests, answers and pushes as bytes |
//! | `message` | the protobuf messages inside frames |
#![forbid(unsafe_code)]

pub mod dispatch;
pub mod error;
pub mod frame;
pub mod login;
pub mod message;
pub mod platform;
pub mod policy;
pub mod token;
