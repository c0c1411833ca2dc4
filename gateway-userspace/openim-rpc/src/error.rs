//! Errors with OpenIM's numbers.
//!
//! OpenIM puts its own numbers, 1001 and the like, where gRPC has its sixteen codes, and a text for people into the
//! details. Clients are shown number and text, and act on the number. tonic knows the sixteen only. So a server keeps the
//! number in the details, as gRPC provides for, and [`ErrorCodes`] writes it into the header afterwards; a client finds
//! it in the details again.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use prost::Message;
use tonic::{Code, Status};
use tower_layer::Layer;
use tower_service::Service;

/// The type that OpenIM's clients look for in the details.
const ERROR_INFO: &str = "type.googleapis.com/openim.protobuf.ErrorInfo";

/// The header with the code.
const GRPC_STATUS: &str = "grpc-status";

/// The largest code that gRPC gives a meaning.
const MAX_GRPC_CODE: i32 = 16;

/// An error as OpenIM's services report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// OpenIM's number, or gRPC's where the call itself failed.
    pub code: i32,
    /// The error by name, the same each time.
    pub message: String,
    /// What it is about this time; may be empty.
    pub detail: String,
}

/// `google.rpc.Status`, as gRPC has it in a trailer.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `openim.protobuf.ErrorInfo`. Fields 1 to 3 are a place in somebody's source code.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "4")]
    cause: String,
    #[prost(string, repeated, tag = "5")]
    warp: Vec<String>,
}

/// Puts OpenIM's numbers into the headers of a server's answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct ErrorCodes;

/// A service behind [`ErrorCodes`].
#[derive(Clone, Debug)]
pub struct WithErrorCodes<S>(S);

// === impl RpcError ===

impl RpcError {
    /// The server failed.
    pub const INTERNAL: i32 = 500;
    /// Something in the request is wrong.
    pub const ARGUMENTS: i32 = 1001;
    /// The caller may not.
    pub const NO_PERMISSION: i32 = 1002;
    /// What is asked for does not exist.
    pub const NOT_FOUND: i32 = 1004;
    /// There is no such group.
    pub const NO_GROUP: i32 = 1201;
    /// The sender is not in the group.
    pub const NOT_IN_GROUP: i32 = 1203;

    /// An error of that number.
    pub fn new(code: i32, message: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: detail.into() }
    }

    /// The server failed. Trying again may help.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Self::INTERNAL, "ServerInternalError", detail)
    }

    /// Something in the request is wrong. Trying again does not help.
    pub fn arguments(detail: impl Into<String>) -> Self {
        Self::new(Self::ARGUMENTS, "ArgsError", detail)
    }

    /// The caller may not. Trying again does not help.
    pub fn no_permission(detail: impl Into<String>) -> Self {
        Self::new(Self::NO_PERMISSION, "NoPermissionError", detail)
    }

    /// What a status says.
    pub fn of(status: &Status) -> Self {
        let told = RpcStatus::decode(status.details()).ok().filter(|told| told.code != 0);
        let Some(told) = told else {
            return Self::new(status.code().into(), status.message(), "");
        };
        let info = told.details.iter().find(|any| any.type_url == ERROR_INFO);
        let detail = info.and_then(|any| ErrorInfo::decode(any.value.clone()).ok()).map(|info| {
            let mut detail = info.warp.join("->");
            detail.push_str(&info.cause);
            detail
        });
        Self { code: told.code, message: told.message, detail: detail.unwrap_or_default() }
    }

    /// Whether the same call may succeed if it is made again.
    pub fn may_pass(&self) -> bool {
        let failed_underway = [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::ResourceExhausted];
        self.code == Self::INTERNAL || failed_underway.map(i32::from).contains(&self.code)
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for RpcError {}

impl From<RpcError> for Status {
    fn from(error: RpcError) -> Self {
        let info = ErrorInfo { cause: error.detail, warp: vec![] };
        let told = RpcStatus {
            code: error.code,
            message: error.message.clone(),
            details: vec![Any { type_url: ERROR_INFO.into(), value: info.encode_to_vec().into() }],
        };
        let code = if (1..=MAX_GRPC_CODE).contains(&error.code) { error.code.into() } else { Code::Unknown };
        Self::with_details(code, error.message, told.encode_to_vec().into())
    }
}

// === impl ErrorCodes ===

impl<S> Layer<S> for ErrorCodes {
    type Service = WithErrorCodes<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithErrorCodes(inner)
    }
}

impl<S, R, B> Service<R> for WithErrorCodes<S>
where
    S: Service<R, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            // An error of a unary call stands in the headers: nothing was sent before it.
            put_code(answer.headers_mut());
            Ok(answer)
        })
    }
}

/// Writes the details' code where gRPC has only "unknown".
fn put_code(headers: &mut HeaderMap) {
    let Some(status) = Status::from_header_map(headers).filter(|status| status.code() == Code::Unknown) else { return };
    let code = RpcError::of(&status).code;
    if code > MAX_GRPC_CODE {
        headers.insert(GRPC_STATUS, HeaderValue::from(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_the_error_said() {
        let error = RpcError::new(RpcError::NOT_IN_GROUP, "NotInGroupYetError", "mallory in g7");
        assert_eq!(RpcError::of(&error.clone().into()), error);
        assert_eq!(error.to_string(), "NotInGroupYetError (1203): mallory in g7");
    }

    #[test]
    fn a_status_without_details_keeps_its_code() {
        let error = RpcError::of(&Status::unavailable("away"));
        assert_eq!((error.code, error.message.as_str(), error.detail.as_str()), (14, "away", ""));
        assert!(error.may_pass());
        assert!(!RpcError::arguments("").may_pass());
        // Nor do details that are none of ours confuse it.
        let odd = Status::with_details(Code::NotFound, "no", Bytes::from_static(b"\xff\xff"));
        assert_eq!(RpcError::of(&odd).code, 5);
    }

    #[test]
    fn the_number_goes_into_the_header() {
        let header = |status: Status| {
            let mut headers = HeaderMap::new();
            status.add_header(&mut headers).unwrap();
            put_code(&mut headers);
            headers[GRPC_STATUS].to_str().unwrap().to_owned()
        };
        assert_eq!(header(RpcError::arguments("x").into()), "1001");
        assert_eq!(header(Status::invalid_argument("x")), "3");
        assert_eq!(header(Status::unknown("x")), "2");
    }
}
