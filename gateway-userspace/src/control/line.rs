//! Reading and writing one JSON object a line, with a limit on the line.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Longest request, in bytes: as many moves as one can have, with the longest addresses.
pub(super) const MAX_REQUEST_BYTES: usize = 64 << 10;

/// Longest thing a gateway tells, in bytes: the sessions of a user who has very many.
pub(super) const MAX_REPORT_BYTES: usize = 256 << 10;

/// Longest answer, in bytes: twice what the two largest rings take with the longest identities, each character escaped.
pub(super) const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Why no message came out of a line.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other side does not keep to the limit.
    #[error("a line of more than {0} bytes, which no message here needs")]
    TooLong(usize),
    /// The other side hung up in the middle of a line.
    #[error("the connection ended within a line")]
    Truncated,
    /// Not what can be said here.
    #[error("not a message: {0}")]
    Malformed(serde_json::Error),
}

/// The next message, `None` after the last one.
pub(super) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    max_bytes: usize,
) -> Result<Option<T>, LineError> {
    let mut line = Vec::new();
    // One byte more than a line may have, for its end.
    from.take(max_bytes as u64 + 1).read_until(b'\n', &mut line).await?;
    match line.split_last() {
        None => Ok(None),
        Some((b'\n', message)) => serde_json::from_slice(message).map(Some).map_err(LineError::Malformed),
        Some(_) if line.len() > max_bytes => Err(LineError::TooLong(max_bytes)),
        Some(_) => Err(LineError::Truncated),
    }
}

/// Writes one message.
pub(super) async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<(), LineError> {
    // JSON escapes line feeds within strings, so the one at the end is the only one.
    let mut line = serde_json::to_vec(message).map_err(LineError::Malformed)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    Ok(to.flush().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_all(mut bytes: &[u8], max_bytes: usize) -> (Vec<u32>, Option<String>) {
        let mut messages = Vec::new();
        loop {
            match read(&mut bytes, max_bytes).await {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => return (messages, None),
                Err(error) => return (messages, Some(error.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn lines_are_messages() {
        assert_eq!(read_all(b"", 4).await, (vec![], None));
        assert_eq!(read_all(b"1\n1234\n", 4).await, (vec![1, 1234], None));
    }

    #[tokio::test]
    async fn a_line_has_a_limit_and_an_end() {
        let (messages, error) = read_all(b"1\n12345\n", 4).await;
        assert_eq!(
            (messages, error.unwrap().as_str()),
            (vec![1], "a line of more than 4 bytes, which no message here needs")
        );
        let (messages, error) = read_all(b"1\n12", 4).await;
        assert_eq!((messages, error.unwrap().as_str()), (vec![1], "the connection ended within a line"));
        let (messages, error) = read_all(b"1\nx\n", 4).await;
        assert_eq!(messages, [1]);
        assert!(error.unwrap().starts_with("not a message: "));
    }
}
