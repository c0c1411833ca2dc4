//! Taking the socket's place in the file system.

use std::{
    fs::{self, Permissions},
    io::{self, ErrorKind},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// Owner and group may connect, nobody else.
const MODE: u32 = 0o660;

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another agent answers there.
    #[error("an agent is already listening on {}; stop it first, or give this one another `socket`", .0.display())]
    InUse(PathBuf),
    /// Something that is not ours to remove.
    #[error("{} exists and is no socket; remove it, or choose another `socket`", .0.display())]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {}: {error}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Listens on a unix socket at `path`, for owner and group only. Makes its directory; takes the place of a socket that
/// a dead agent has left, but not of one that somebody answers.
///
/// Must be called within a tokio runtime.
///
/// # Errors
/// If the place is taken, or the system refuses.
pub fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let io = |error| ListenError::Io { path: path.to_owned(), error };
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => return Err(ListenError::NotASocket(path.to_owned())),
        // Only a refusal says that nobody listens; a full backlog, say, is a sign of life.
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            _ => return Err(ListenError::InUse(path.to_owned())),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(io)?;
    }
    // Prepared under another name and then renamed: at no moment is there a socket with the wrong mode, nor none where
    // an old one was.
    let mut preparing = path.as_os_str().to_owned();
    preparing.push(".new");
    match fs::remove_file(&preparing) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&preparing).map_err(io)?;
    fs::set_permissions(&preparing, Permissions::from_mode(MODE)).map_err(io)?;
    fs::rename(&preparing, path).map_err(io)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_owner_and_group_may_connect() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/for/it/agent.sock");
        let _listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o660);
        UnixStream::connect(&path).unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let first = listen(&path).unwrap();
        let error = listen(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "an agent is already listening on {}; stop it first, or give this one another `socket`",
                path.display()
            )
        );
        drop(first);
        let _second = listen(&path).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        fs::write(&path, "precious").unwrap();
        let error = listen(&path).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} exists and is no socket; remove it, or choose another `socket`", path.display())
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        let below_a_file = listen(&path.join("agent.sock")).unwrap_err();
        assert!(matches!(below_a_file, ListenError::Io { .. }), "{below_a_file}");
    }
}
