//! A push to many users and its answer, as JSON: what pushers send, and what the front says to gateways and hears of them.
//! Pure.
//!
//! | file | subject |
//! |---|---|
//! | `batch` | what is sent |
//! | `answer` | what became of it, user by user |
//! | `names` | what users, pushes and operations can be called |
//!
//! What is written here is read here as the same.
#![forbid(unsafe_code)]

mod answer;
mod batch;
mod names;

pub use self::{
    answer::{Answer, Status, UserResult},
    batch::{BadBatch, Batch, Content, MAX_BATCH, MAX_MESSAGE, MAX_USERS},
    names::{MAX_ID, MAX_OPERATION, MAX_USER, good_id, good_user, shorten_operation},
};
