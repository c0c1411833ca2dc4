//! Frames as JSON, with data in base64.
//!
//! Read as Go reads them: what is missing or null is empty, what is not known is skipped. An answer without data has
//! `null` there, as Go writes it.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::{BadFrame, Request, Response};

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RequestJson {
    #[serde(rename = "reqIdentifier", deserialize_with = "or_empty")]
    id: i32,
    #[serde(deserialize_with = "or_empty")]
    token: String,
    #[serde(rename = "sendID", deserialize_with = "or_empty")]
    send_id: String,
    #[serde(rename = "operationID", deserialize_with = "or_empty")]
    operation_id: String,
    #[serde(deserialize_with = "or_empty")]
    msg_incr: String,
    #[serde(serialize_with = "base64", deserialize_with = "unbase64")]
    data: Bytes,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResponseJson {
    #[serde(rename = "reqIdentifier", deserialize_with = "or_empty")]
    id: i32,
    #[serde(deserialize_with = "or_empty")]
    msg_incr: String,
    #[serde(rename = "operationID", deserialize_with = "or_empty")]
    operation_id: String,
    #[serde(deserialize_with = "or_empty")]
    err_code: i64,
    #[serde(deserialize_with = "or_empty")]
    err_msg: String,
    #[serde(serialize_with = "base64", deserialize_with = "unbase64")]
    data: Bytes,
}

pub(super) fn read_request(bytes: &[u8]) -> Result<Request, BadFrame> {
    let RequestJson { id, token, send_id, operation_id, msg_incr, data } = read(bytes)?;
    Ok(Request { id, token, send_id, operation_id, msg_incr, data })
}

pub(super) fn write_request(request: &Request) -> Vec<u8> {
    let Request { id, token, send_id, operation_id, msg_incr, data } = request.clone();
    write(&RequestJson { id, token, send_id, operation_id, msg_incr, data })
}

pub(super) fn read_response(bytes: &[u8]) -> Result<Response, BadFrame> {
    let ResponseJson { id, msg_incr, operation_id, err_code, err_msg, data } = read(bytes)?;
    Ok(Response { id, msg_incr, operation_id, err_code, err_msg, data })
}

pub(super) fn write_response(response: &Response) -> Vec<u8> {
    let Response { id, msg_incr, operation_id, err_code, err_msg, data } = response.clone();
    write(&ResponseJson { id, msg_incr, operation_id, err_code, err_msg, data })
}

fn read<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, BadFrame> {
    // By way of a map, in which the last of several fields of one name counts; and serde would take an array for a
    // structure.
    serde_json::from_slice::<Map<String, Value>>(bytes)
        .and_then(|fields| T::deserialize(Value::Object(fields)))
        .map_err(|error| BadFrame::Json(error.to_string()))
}

fn write(frame: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(frame).expect("strings and numbers are always JSON")
}

fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn base64<S: Serializer>(data: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    if data.is_empty() { serializer.serialize_none() } else { serializer.serialize_str(&STANDARD.encode(data)) }
}

fn unbase64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(Bytes::new()) };
    STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
}
