//! Our own frames: a definition that never changes, then the value.

use super::super::{Request, Response};

/// The length of the definition and the definition of a request, as the Go core's SDKs send it: type 65.
const REQUEST_TYPE: &[u8] = b"\x66\xff\x81\x03\x01\x01\x0cGeneralWsReq\x01\xff\x82\x00\x01\x06\
    \x01\x0dReqIdentifier\x01\x04\x00\x01\x05Token\x01\x0c\x00\x01\x06SendID\x01\x0c\x00\
    \x01\x0bOperationID\x01\x0c\x00\x01\x07MsgIncr\x01\x0c\x00\x01\x04Data\x01\x0a\x00\x00\x00";

/// The same of a response, as OpenIM's servers send it: type 66.
const RESPONSE_TYPE: &[u8] = b"\x60\xff\x83\x03\x01\x01\x04Resp\x01\xff\x84\x00\x01\x06\
    \x01\x0dReqIdentifier\x01\x04\x00\x01\x07MsgIncr\x01\x0c\x00\x01\x0bOperationID\x01\x0c\x00\
    \x01\x07ErrCode\x01\x04\x00\x01\x06ErrMsg\x01\x0c\x00\x01\x04Data\x01\x0a\x00\x00\x00";

const REQUEST_ID: i64 = 65;
const RESPONSE_ID: i64 = 66;

pub(in super::super) fn write_request(request: &Request) -> Vec<u8> {
    let Request { id, token, send_id, operation_id, msg_incr, data } = request;
    let texts = token.len() + send_id.len() + operation_id.len() + msg_incr.len();
    let mut value = Value::of_type(REQUEST_ID, texts + data.len());
    value.int(1, (*id).into());
    value.bytes(2, token.as_bytes());
    value.bytes(3, send_id.as_bytes());
    value.bytes(4, operation_id.as_bytes());
    value.bytes(5, msg_incr.as_bytes());
    value.bytes(6, data);
    value.after(REQUEST_TYPE)
}

pub(in super::super) fn write_response(response: &Response) -> Vec<u8> {
    let Response { id, msg_incr, operation_id, err_code, err_msg, data } = response;
    let mut value = Value::of_type(RESPONSE_ID, msg_incr.len() + operation_id.len() + err_msg.len() + data.len());
    value.int(1, (*id).into());
    value.bytes(2, msg_incr.as_bytes());
    value.bytes(3, operation_id.as_bytes());
    value.int(4, *err_code);
    value.bytes(5, err_msg.as_bytes());
    value.bytes(6, data);
    value.after(RESPONSE_TYPE)
}

/// A structure's value being written.
struct Value {
    bytes: Vec<u8>,
    /// The field written last; 0 if none is.
    last: u64,
}

impl Value {
    fn of_type(id: i64, content: usize) -> Self {
        // Room for numbers and lengths too.
        let mut bytes = Vec::with_capacity(content + 64);
        signed(&mut bytes, id);
        Self { bytes, last: 0 }
    }

    fn int(&mut self, field: u64, number: i64) {
        if number != 0 {
            self.field(field);
            signed(&mut self.bytes, number);
        }
    }

    fn bytes(&mut self, field: u64, content: &[u8]) {
        if !content.is_empty() {
            self.field(field);
            unsigned(&mut self.bytes, content.len() as u64);
            self.bytes.extend_from_slice(content);
        }
    }

    /// The whole frame: the definition, the value's length, the value.
    fn after(mut self, definition: &[u8]) -> Vec<u8> {
        self.bytes.push(0);
        let mut frame = Vec::with_capacity(definition.len() + 9 + self.bytes.len());
        frame.extend_from_slice(definition);
        unsigned(&mut frame, self.bytes.len() as u64);
        frame.append(&mut self.bytes);
        frame
    }

    fn field(&mut self, field: u64) {
        unsigned(&mut self.bytes, field - self.last);
        self.last = field;
    }
}

fn unsigned(to: &mut Vec<u8>, number: u64) {
    if number < 0x80 {
        to.push(number as u8);
        return;
    }
    let bytes = number.to_be_bytes();
    let zeros = number.leading_zeros() as usize / 8;
    to.push(((bytes.len() - zeros) as u8).wrapping_neg());
    to.extend_from_slice(&bytes[zeros..]);
}

fn signed(to: &mut Vec<u8>, number: i64) {
    unsigned(to, ((number << 1) ^ (number >> 63)) as u64);
}
