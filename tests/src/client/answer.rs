//! The HTTP answer to a request.

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest head of an answer, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// The longest body of an answer, in bytes.
const BODY_MAX: usize = 1 << 20;

/// Headers of an answer.
const HEADERS_MAX: usize = 64;

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 101, 200, 421, …
    pub status: u16,
    /// Names, in small letters, and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for 101.
    pub body: Vec<u8>,
}

// === impl Answer ===

impl Answer {
    /// The value of a header, whose name is given in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// If it is none; the message carries the body.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| {
            format!("the {} answer is no JSON: {:?}", self.status, String::from_utf8_lossy(&self.body))
        })
    }

    /// Reads an answer, and what came after it.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<(Self, Vec<u8>)> {
        let mut bytes = Vec::new();
        let (mut answer, head) = loop {
            if let Some(parsed) = Self::parse_head(&bytes)? {
                break parsed;
            }
            ensure!(bytes.len() < HEAD_MAX, "the head of the answer is longer than {HEAD_MAX} bytes");
            if stream.read_buf(&mut bytes).await.context("reading the answer")? == 0 {
                bail!("closed before a whole answer: {:?}", String::from_utf8_lossy(&bytes));
            }
        };
        let mut rest = bytes.split_off(head);
        if answer.status == 101 {
            return Ok((answer, rest));
        }

        ensure!(answer.header("transfer-encoding").is_none(), "this client reads no chunked answers");
        let announced = answer.header("content-length").map(str::parse).transpose().context("content-length")?;
        let length: usize = announced.unwrap_or(BODY_MAX);
        ensure!(length <= BODY_MAX, "a body of {length} bytes is longer than {BODY_MAX}");
        while rest.len() < length {
            if stream.read_buf(&mut rest).await.context("reading the body of the answer")? == 0 {
                ensure!(announced.is_none(), "closed after {} of {length} bytes of the body", rest.len());
                break;
            }
        }
        let after = rest.split_off(length.min(rest.len()));
        answer.body = rest;
        Ok((answer, after))
    }

    /// The answer without its body and the length of its head; none if there is not enough yet.
    fn parse_head(bytes: &[u8]) -> Result<Option<(Self, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response
            .parse(bytes)
            .with_context(|| format!("the answer is no HTTP: {:?}", String::from_utf8_lossy(bytes)))?;
        let httparse::Status::Complete(length) = parsed else { return Ok(None) };
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        let headers = response.headers.iter().map(|header| (header.name.to_ascii_lowercase(), text(header.value)));
        let status = response.code.expect("complete");
        Ok(Some((Self { status, headers: headers.collect(), body: Vec::new() }, length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(mut bytes: &[u8]) -> Result<(Answer, Vec<u8>)> {
        Answer::read(&mut bytes).await
    }

    #[tokio::test]
    async fn a_body_ends_where_it_says_or_where_the_stream_does() -> Result<()> {
        let (answer, rest) = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore").await?;
        assert_eq!((answer.status, answer.body.as_slice(), rest.as_slice()), (200, &b"ok"[..], &b"more"[..]));
        assert_eq!(answer.header("content-length"), Some("2"));

        let (answer, rest) = read(b"HTTP/1.0 421 Misdirected\r\n\r\n{\"owner\":\"b\"}").await?;
        assert_eq!((answer.json()?["owner"].as_str(), rest.len()), (Some("b"), 0));

        let (answer, rest) = read(b"HTTP/1.1 101 Switching\r\n\r\n\x81\x01a").await?;
        assert_eq!((answer.body.len(), rest.as_slice()), (0, &b"\x81\x01a"[..]));
        Ok(())
    }

    #[tokio::test]
    async fn a_cut_answer_is_an_error() {
        for bytes in
            [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", b"\x16\x03\x01"]
        {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
    }
}
