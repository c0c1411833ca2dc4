//! Secrets that callers show.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use super::{ConfigError, Problem};

/// Shortest and longest token, in bytes.
const MIN_TOKEN: usize = 8;
const MAX_TOKEN: usize = 512;

/// The token in a file: its first line that is not empty and no comment. Files for several tokens, of which the first is
/// the one to show, are read alike.
///
/// # Errors
/// If the file cannot be read, or holds no token.
pub fn read_token(path: &Path) -> Result<String, ConfigError> {
    let path_of = || -> PathBuf { path.to_owned() };
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(64 << 10).read_to_string(&mut text))
        .map_err(|error| ConfigError::elsewhere(Problem::UnreadableToken { path: path_of(), error }))?;
    let mut lines = text.lines().map(str::trim_ascii).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let token = lines.next().unwrap_or_default();
    let good = (MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    if !good {
        return Err(ConfigError::elsewhere(Problem::MalformedToken { path: path_of() }));
    }
    Ok(token.to_owned())
}
