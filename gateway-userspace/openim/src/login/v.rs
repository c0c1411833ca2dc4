//! The login as one parameter: base64url of JSON.

use base64::{
    Engine as _,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::Raw;

/// The parameter's name.
pub(super) const PARAMETER: &str = "v";

/// Base64url as Go decodes it, which does not look at left-over bits; padding is not needed but taken.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The fields. As in Go, one that is missing or null has its empty value, and others are skipped.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Fields {
    #[serde(deserialize_with = "or_empty")]
    token: String,
    #[serde(rename = "userID", deserialize_with = "or_empty")]
    user_id: String,
    #[serde(rename = "platformID")]
    platform_id: Option<i64>,
    #[serde(rename = "operationID", deserialize_with = "or_empty")]
    operation_id: String,
    #[serde(deserialize_with = "or_empty")]
    compression: String,
    #[serde(deserialize_with = "or_empty")]
    sdk_type: String,
    #[serde(deserialize_with = "or_empty")]
    send_response: bool,
    #[serde(deserialize_with = "or_empty")]
    background: bool,
    #[serde(deserialize_with = "or_empty")]
    sdk_version: String,
}

fn or_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads the parameter's value.
pub(super) fn read(value: &[u8]) -> Result<Raw, String> {
    let json = BASE64.decode(value).map_err(|_| "v is not base64url")?;
    // By way of a map, in which, as in Go, the last of several fields of one name counts.
    let fields = serde_json::from_slice::<Map<String, Value>>(&json)
        .and_then(|fields| Fields::deserialize(Value::Object(fields)))
        .map_err(|error| format!("v is no login: {error}"))?;
    Ok(Raw {
        token: fields.token,
        user: fields.user_id,
        platform: fields.platform_id,
        operation_id: fields.operation_id,
        compression: fields.compression,
        sdk_type: fields.sdk_type,
        background: fields.background,
        wants_reply: fields.send_response,
        sdk_version: fields.sdk_version,
    })
}
