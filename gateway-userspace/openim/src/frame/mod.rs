//! Frames: requests, and the answers and pushes that come back, inside websocket messages.
//!
//! | file | subject |
//! |---|---|
//! | `gob` | frames as Go's `encoding/gob` writes them |
//! | `json` | frames as JSON |
//! | `gzip` | compression, with its limits |
//! | `text` | text messages: ping and pong |
//!
//! A client chooses encoding and compression when it logs in ([`Wire`]) and keeps to them in both directions. A frame
//! stands in one binary message.

pub mod gob;
mod gzip;
mod json;
pub mod text;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::login::{Compression, Encoding, Login};

/// Largest frame that a client may send, in bytes, as it is received.
pub const MAX_FRAME_BYTES: usize = 51_200;

/// Largest frame after decompression, in bytes. Twenty times what an uncompressed frame may have; gzip alone would make
/// fifty megabytes of the largest frame.
pub const MAX_UNPACKED_BYTES: usize = 1 << 20;

/// What frames are for, `ReqIdentifier`.
pub mod id {
    /// The newest sequence numbers of the user's conversations.
    pub const NEWEST_SEQS: i32 = 1001;
    /// Messages by ranges of sequence numbers.
    pub const PULL_BY_RANGES: i32 = 1002;
    /// Send a message.
    pub const SEND: i32 = 1003;
    /// Signalling for calls.
    pub const SIGNAL: i32 = 1004;
    /// Messages by lists of sequence numbers.
    pub const PULL_BY_SEQS: i32 = 1005;
    /// How far conversations go and are read.
    pub const READ_AND_NEWEST_SEQS: i32 = 1006;
    /// The last message of conversations.
    pub const LAST_MESSAGES: i32 = 1007;
    /// Messages, from the server.
    pub const PUSH: i32 = 2001;
    /// Another login has ended this one, from the server.
    pub const KICKED: i32 = 2002;
    /// The client logs out.
    pub const LOGOUT: i32 = 2003;
    /// The app goes into the background, or comes back.
    pub const BACKGROUND: i32 = 2004;
    /// Whose online status the client wants to know; from the server: that status.
    pub const ONLINE_STATUS: i32 = 2005;
    /// Something could not be read.
    pub const DATA_ERROR: i32 = 3001;
}

/// A frame from a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What it is for; see [`id`].
    pub id: i32,
    /// Empty: the login has proven who it is.
    pub token: String,
    /// The user.
    pub send_id: String,
    /// Names what the user does, in logs.
    pub operation_id: String,
    /// Names the request; the answer repeats it.
    pub msg_incr: String,
    /// A protobuf message, by `id`.
    pub data: Bytes,
}

/// A frame from the server: an answer, or something pushed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// What it is for; see [`id`].
    pub id: i32,
    /// The request that it answers; empty if it is pushed.
    pub msg_incr: String,
    /// From the request, or whatever caused the push.
    pub operation_id: String,
    /// 0 if all is well.
    pub err_code: i64,
    /// What is wrong.
    pub err_msg: String,
    /// A protobuf message, by `id`.
    pub data: Bytes,
}

/// How a session's frames are written. Two sessions of one format get the same bytes, so that what goes to many has to be
/// written once for each of four formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wire {
    /// First they are written like this.
    pub encoding: Encoding,
    /// Then this is done to them.
    pub compression: Compression,
}

/// Bytes that are not the frame they should be. Always the sender's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// More than [`MAX_FRAME_BYTES`].
    #[error("{0} bytes, and a frame may have {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// More than [`MAX_UNPACKED_BYTES`].
    #[error("more than {MAX_UNPACKED_BYTES} bytes when decompressed")]
    TooLargeUnpacked,
    /// No gzip.
    #[error("not gzip")]
    Gzip,
    /// No gob, or not of that frame.
    #[error("gob: {0}")]
    Gob(#[from] gob::BadGob),
    /// No JSON, or not of that frame.
    #[error("JSON: {0}")]
    Json(String),
}

// === impl Wire ===

impl From<&Login> for Wire {
    fn from(login: &Login) -> Self {
        Self { encoding: login.encoding, compression: login.compression }
    }
}

impl Wire {
    /// All formats.
    pub const ALL: [Self; 4] = [
        Self { encoding: Encoding::Gob, compression: Compression::None },
        Self { encoding: Encoding::Gob, compression: Compression::Gzip },
        Self { encoding: Encoding::Json, compression: Compression::None },
        Self { encoding: Encoding::Json, compression: Compression::Gzip },
    ];

    /// Writes a frame for a client.
    pub fn write(self, response: &Response) -> Bytes {
        self.pack(match self.encoding {
            Encoding::Gob => gob::write_response(response),
            Encoding::Json => json::write_response(response),
        })
    }

    /// Reads a client's frame.
    ///
    /// # Errors
    /// If it is too large or cannot be read.
    pub fn read(self, bytes: &Bytes) -> Result<Request, BadFrame> {
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(BadFrame::TooLarge(bytes.len()));
        }
        let bytes = self.unpack(bytes, MAX_UNPACKED_BYTES)?;
        match self.encoding {
            Encoding::Gob => Ok(gob::read(&bytes)?),
            Encoding::Json => json::read_request(&bytes),
        }
    }

    /// Writes a frame for a server, as clients do.
    pub fn write_request(self, request: &Request) -> Bytes {
        self.pack(match self.encoding {
            Encoding::Gob => gob::write_request(request),
            Encoding::Json => json::write_request(request),
        })
    }

    /// Reads a server's frame, as clients do; `limit` is how many bytes it may have when decompressed.
    ///
    /// # Errors
    /// If it is too large or cannot be read.
    pub fn read_response(self, bytes: &Bytes, limit: usize) -> Result<Response, BadFrame> {
        let bytes = self.unpack(bytes, limit)?;
        match self.encoding {
            Encoding::Gob => Ok(gob::read(&bytes)?),
            Encoding::Json => json::read_response(&bytes),
        }
    }

    fn pack(self, frame: Vec<u8>) -> Bytes {
        match self.compression {
            Compression::None => frame.into(),
            Compression::Gzip => gzip::pack(&frame).into(),
        }
    }

    fn unpack(self, bytes: &Bytes, limit: usize) -> Result<Bytes, BadFrame> {
        match self.compression {
            Compression::None => Ok(bytes.clone()),
            Compression::Gzip => gzip::unpack(bytes, limit).map(Bytes::from),
        }
    }
}
