//! The golden vectors, `tests/vectors/gob_frames.json`: frames that Go's `encoding/gob` has written.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::super::*;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    r#type: String,
    fields: VectorFields,
    gob_hex: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VectorFields {
    req_identifier: i32,
    #[serde(default)]
    token: String,
    #[serde(rename = "SendID", default)]
    send_id: String,
    #[serde(rename = "OperationID")]
    operation_id: String,
    msg_incr: String,
    #[serde(default)]
    err_code: i64,
    #[serde(default)]
    err_msg: String,
    data: Option<String>,
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> =
        serde_json::from_str(include_str!("../../../../../tests/vectors/gob_frames.json")).unwrap();
    assert!(vectors.len() >= 19);
    vectors
}

impl Vector {
    fn bytes(&self) -> Bytes {
        let digits = self.gob_hex.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn data(&self) -> Bytes {
        self.fields.data.as_ref().map(|text| STANDARD.decode(text).unwrap()).unwrap_or_default().into()
    }

    fn request(&self) -> Request {
        let VectorFields { req_identifier: id, token, send_id, operation_id, msg_incr, .. } = &self.fields;
        Request {
            id: *id,
            token: token.clone(),
            send_id: send_id.clone(),
            operation_id: operation_id.clone(),
            msg_incr: msg_incr.clone(),
            data: self.data(),
        }
    }

    fn response(&self) -> Response {
        let VectorFields { req_identifier: id, operation_id, msg_incr, err_code, err_msg, .. } = &self.fields;
        Response {
            id: *id,
            msg_incr: msg_incr.clone(),
            operation_id: operation_id.clone(),
            err_code: *err_code,
            err_msg: err_msg.clone(),
            data: self.data(),
        }
    }
}

#[test]
fn every_frame_is_read_to_its_fields() {
    for vector in vectors() {
        let bytes = vector.bytes();
        match vector.r#type.as_str() {
            "GeneralWsReq" => assert_eq!(gob::read(&bytes), Ok(vector.request())),
            "Resp" | "GeneralWsResp" => assert_eq!(gob::read(&bytes), Ok(vector.response())),
            other => panic!("a vector of type {other}"),
        }
    }
}

/// The bytes are Go's wherever Go wrote the same type under the same number; the SDK's own type of responses is another.
#[test]
fn our_frames_are_gos_to_the_byte() {
    let mut compared = 0;
    for vector in vectors() {
        let ours = match vector.r#type.as_str() {
            "GeneralWsReq" => gob::write_request(&vector.request()),
            "Resp" => gob::write_response(&vector.response()),
            _ => continue,
        };
        assert!(ours == vector.bytes(), "frame {} of type {}", vector.fields.req_identifier, vector.r#type);
        compared += 1;
    }
    assert_eq!(compared, 18);
}

#[test]
fn a_frame_cut_anywhere_is_no_frame() {
    for vector in vectors() {
        let bytes = vector.bytes();
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 500) {
            assert!(gob::read::<Request>(&bytes.slice(..length)).is_err());
            assert!(gob::read::<Response>(&bytes.slice(..length)).is_err());
        }
    }
}
