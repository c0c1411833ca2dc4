//! Who calls, in the metadata.
//!
//! OpenIM's services refuse a call without exactly one `operationID`, which follows a client's request through all of
//! them. A gateway that calls for a client says in `opUserID` and `platform` whose session it is, and in `connID` which
//! connection; services decide by `opUserID` what the call may ask for.

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataMap, MetadataValue},
};

use crate::error::RpcError;

// As they go over the wire: HTTP/2 knows no capital letters. OpenIM writes operationID, opUserID, connID.
const OPERATION_ID: &str = "operationid";
const OP_USER_ID: &str = "opuserid";
const PLATFORM: &str = "platform";
const CONN_ID: &str = "connid";

/// Who calls, and for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Names the operation in the logs of all services that take part. Never empty.
    pub operation_id: String,
    /// For whose session; `None` if a service calls for itself.
    pub user_id: Option<String>,
    /// The name of that session's platform, such as `iOS` or `Web`.
    pub platform: Option<String>,
    /// That session's connection.
    pub conn_id: Option<String>,
}

// === impl Caller ===

impl Caller {
    /// A service that calls for itself.
    pub fn service(operation_id: impl Into<String>) -> Self {
        Self { operation_id: operation_id.into(), ..Self::default() }
    }

    /// A call, with this in its metadata. Bytes that no header can carry become `?`.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        let optional = [(OP_USER_ID, &self.user_id), (PLATFORM, &self.platform), (CONN_ID, &self.conn_id)];
        metadata.insert(OPERATION_ID, header(&self.operation_id));
        for (key, value) in optional {
            if let Some(value) = value {
                metadata.insert(key, header(value));
            }
        }
        request
    }

    /// Who called.
    ///
    /// # Errors
    /// If the metadata does not have exactly one operation.
    pub fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let metadata = request.metadata();
        let Some(operation_id) = only(metadata, OPERATION_ID).filter(|id| !id.is_empty()) else {
            return Err(Status::invalid_argument("the metadata needs exactly one operationID"));
        };
        Ok(Self {
            operation_id,
            user_id: only(metadata, OP_USER_ID),
            platform: only(metadata, PLATFORM),
            conn_id: only(metadata, CONN_ID),
        })
    }

    /// Whether the call may ask for what is `user_id`'s: it is made for their session, or by a service for itself.
    ///
    /// # Errors
    /// If it may not.
    pub fn may_act_for(&self, user_id: &str) -> Result<(), RpcError> {
        match &self.user_id {
            Some(caller) if caller != user_id => {
                Err(RpcError::no_permission(format!("{caller:?} asks for what is {user_id:?}'s")))
            }
            _ => Ok(()),
        }
    }
}

/// As a header's value: user ids are UTF-8, which passes; control characters do not.
fn header(value: &str) -> MetadataValue<Ascii> {
    let bytes: Vec<u8> = value.bytes().map(|byte| if byte < 0x20 || byte == 0x7f { b'?' } else { byte }).collect();
    MetadataValue::try_from(bytes).expect("control characters are gone, and a header takes all others")
}

/// The value that stands alone under `key`.
fn only(metadata: &MetadataMap, key: &str) -> Option<String> {
    let mut values = metadata.get_all(key).iter();
    let value = values.next()?;
    let text = std::str::from_utf8(value.as_bytes()).ok()?;
    values.next().is_none().then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_out_comes_in() {
        let caller = Caller {
            operation_id: "op-1".into(),
            user_id: Some("Jürgen 张".into()),
            platform: Some("Web".into()),
            conn_id: Some("c7".into()),
        };
        assert_eq!(Caller::of(&caller.request(())).unwrap(), caller);
        let service = Caller::service("op-2");
        assert_eq!(Caller::of(&service.request(())).unwrap(), service);
    }

    #[test]
    fn a_call_belongs_to_exactly_one_operation() {
        assert_eq!(Caller::of(&Request::new(())).unwrap_err().code(), tonic::Code::InvalidArgument);
        assert_eq!(Caller::of(&Caller::service("").request(())).unwrap_err().code(), tonic::Code::InvalidArgument);
        let mut two = Caller::service("a").request(());
        two.metadata_mut().append("operationid", "b".parse().unwrap());
        assert_eq!(Caller::of(&two).unwrap_err().code(), tonic::Code::InvalidArgument);
    }

    #[test]
    fn control_characters_do_not_get_far() {
        let caller = Caller::service("a\r\nb\0");
        assert_eq!(Caller::of(&caller.request(())).unwrap().operation_id, "a??b?");
    }

    #[test]
    fn a_session_asks_for_its_own_user_only() {
        let caller = Caller { user_id: Some("alice".into()), ..Caller::service("op") };
        assert!(caller.may_act_for("alice").is_ok());
        assert_eq!(caller.may_act_for("bob").unwrap_err().code, RpcError::NO_PERMISSION);
        assert!(Caller::service("op").may_act_for("bob").is_ok());
    }
}
