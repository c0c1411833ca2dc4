//! What is answered; pure.

use serde_json::json;

/// A response with a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Response {
    status: u16,
    headers: Vec<(&'static str, String)>,
    /// JSON.
    body: String,
}

impl Response {
    /// A response with this body.
    pub(in crate::gateway) fn new(status: u16, body: serde_json::Value) -> Self {
        Self::text(status, body.to_string() + "\n")
    }

    /// A response with this body, which is JSON already.
    pub(in crate::gateway) fn text(status: u16, body: String) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// A response that says what is wrong.
    pub(in crate::gateway) fn error(status: u16, message: impl ToString) -> Self {
        Self::new(status, json!({ "error": message.to_string() }))
    }

    /// The response with one more header line. `value` must not hold control characters.
    pub(in crate::gateway) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The status code.
    pub(in crate::gateway) fn status(&self) -> u16 {
        self.status
    }

    /// The bytes on the wire. Unless `keep_alive`, they announce that the connection ends.
    pub(in crate::gateway) fn encode(&self, keep_alive: bool) -> Vec<u8> {
        let body = &self.body;
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        if !keep_alive {
            // 426 has to name Upgrade here, too: RFC 9110, section 7.8.
            text += if self.status == 426 { "Connection: close, Upgrade\r\n" } else { "Connection: close\r\n" };
        }
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_what_a_client_expects() {
        let bytes = Response::error(503, "no ring").header("Retry-After", "1").encode(false);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"error\":\"no ring\"}\n"
        );
        let bytes = Response::new(200, json!({})).encode(true);
        assert!(!String::from_utf8(bytes).unwrap().contains("Connection"));
    }
}
