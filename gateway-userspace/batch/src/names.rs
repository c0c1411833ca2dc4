//! What users, pushes and operations can be called.

/// Longest id of a push, in bytes.
pub const MAX_ID: usize = 128;

/// Longest name of a user, in bytes: what the kernel program reads.
pub const MAX_USER: usize = 256;

/// Longest name of an operation, in bytes.
pub const MAX_OPERATION: usize = 256;

/// Whether a push can be called so.
pub fn good_id(id: &str) -> bool {
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a user can be called so: nobody can be logged in under another name.
pub fn good_user(user: &str) -> bool {
    (1..=MAX_USER).contains(&user.len())
}

/// The name of an operation, cut to what a push may have.
pub fn shorten_operation(mut operation: String) -> String {
    operation.truncate(operation.floor_char_boundary(MAX_OPERATION));
    operation
}
