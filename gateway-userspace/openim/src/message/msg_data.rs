//! One message, with whatever a newer client or service has put into it.
//!
//! prost drops fields that it does not know. OpenIM's own services, in Go, keep them: a field that a newer SDK sends
//! arrives at another newer SDK through older services. So this one type is not made from `proto/`, where its fields are
//! listed all the same, but written by hand: what is unknown stays as it came, behind what is known.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use prost::{
    DecodeError, Message,
    encoding::{self, DecodeContext, WireType},
};

use super::sdkws::OfflinePushInfo;

/// One message, from when a client sends it to when others receive it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MsgData {
    /// Who sends it.
    pub send_id: String,
    /// Who is to receive it; empty for a group.
    pub recv_id: String,
    /// The group that is to receive it; empty otherwise.
    pub group_id: String,
    /// The sender's name for the message; the same one means the same message sent again.
    pub client_msg_id: String,
    /// The message service's name for it.
    pub server_msg_id: String,
    /// The platform it was sent from.
    pub sender_platform_id: i32,
    /// How the sender wants to be called.
    pub sender_nickname: String,
    /// Where the sender's picture is.
    pub sender_face_url: String,
    /// See [`session_type`](super::session_type).
    pub session_type: i32,
    /// 100 a user, 200 the system.
    pub msg_from: i32,
    /// What `content` is: 101 a text, and many more; 1000 to 5000 are notifications.
    pub content_type: i32,
    /// The content: JSON, by `content_type`.
    pub content: Bytes,
    /// Place in its conversation, from 1; given by the message service.
    pub seq: i64,
    /// When the message service took it, in milliseconds since 1970.
    pub send_time: i64,
    /// When the client made it, in milliseconds since 1970.
    pub create_time: i64,
    /// 1 being sent, 2 sent, 3 failed, 4 deleted.
    pub status: i32,
    /// Whether the receiver has read it.
    pub is_read: bool,
    /// Switches, such as `history`, `persistent`, `offlinePush`, `unreadCount`; one that is not there is on.
    pub options: BTreeMap<String, bool>,
    /// What a user who is offline is shown.
    pub offline_push_info: Option<OfflinePushInfo>,
    /// The users it mentions.
    pub at_user_id_list: Vec<String>,
    /// Whatever clients attach.
    pub attached_info: String,
    /// Whatever the application attaches.
    pub ex: String,
    /// Fields that are not known here, as protobuf writes them.
    pub unknown: Vec<u8>,
}

/// The fields that hold one plain value, up to the first that does not: number, type, name.
macro_rules! for_plain_fields {
    ($act:ident) => {
        $act! {
            1 string send_id, 2 string recv_id, 3 string group_id, 4 string client_msg_id, 5 string server_msg_id,
            6 int32 sender_platform_id, 7 string sender_nickname, 8 string sender_face_url, 9 int32 session_type,
            10 int32 msg_from, 11 int32 content_type, 12 bytes content, 14 int64 seq, 15 int64 send_time,
            16 int64 create_time, 17 int32 status, 18 bool is_read
        }
    };
}

/// The others.
const OPTIONS: u32 = 19;
const OFFLINE_PUSH_INFO: u32 = 20;
const AT_USER_ID_LIST: u32 = 21;
const ATTACHED_INFO: u32 = 22;
const EX: u32 = 23;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Message for MsgData {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        use encoding::{bool, btree_map, message, string};

        macro_rules! encode {
            ($($tag:literal $kind:ident $field:ident),+) => {$(
                if !is_default(&self.$field) {
                    encoding::$kind::encode($tag, &self.$field, buf);
                }
            )+};
        }
        for_plain_fields!(encode);
        let (encode, length) = (string::encode, string::encoded_len);
        btree_map::encode(encode, length, bool::encode, bool::encoded_len, OPTIONS, &self.options, buf);
        if let Some(info) = &self.offline_push_info {
            message::encode(OFFLINE_PUSH_INFO, info, buf);
        }
        string::encode_repeated(AT_USER_ID_LIST, &self.at_user_id_list, buf);
        for (tag, text) in [(ATTACHED_INFO, &self.attached_info), (EX, &self.ex)] {
            if !text.is_empty() {
                string::encode(tag, text, buf);
            }
        }
        buf.put_slice(&self.unknown);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        use encoding::{bool, btree_map, message, string};

        macro_rules! merge {
            ($($number:literal $kind:ident $field:ident),+) => {
                match tag {
                    $($number => encoding::$kind::merge(wire_type, &mut self.$field, buf, ctx),)+
                    OPTIONS => btree_map::merge(string::merge, bool::merge, &mut self.options, buf, ctx),
                    OFFLINE_PUSH_INFO => {
                        message::merge(wire_type, self.offline_push_info.get_or_insert_default(), buf, ctx)
                    }
                    AT_USER_ID_LIST => string::merge_repeated(wire_type, &mut self.at_user_id_list, buf, ctx),
                    ATTACHED_INFO => string::merge(wire_type, &mut self.attached_info, buf, ctx),
                    EX => string::merge(wire_type, &mut self.ex, buf, ctx),
                    _ => keep(&mut self.unknown, tag, wire_type, buf, ctx),
                }
            };
        }
        for_plain_fields!(merge)
    }

    fn encoded_len(&self) -> usize {
        use encoding::{bool, btree_map, message, string};

        let mut total = self.unknown.len();
        macro_rules! add {
            ($($tag:literal $kind:ident $field:ident),+) => {$(
                if !is_default(&self.$field) {
                    total += encoding::$kind::encoded_len($tag, &self.$field);
                }
            )+};
        }
        for_plain_fields!(add);
        total += btree_map::encoded_len(string::encoded_len, bool::encoded_len, OPTIONS, &self.options);
        total += self.offline_push_info.as_ref().map_or(0, |info| message::encoded_len(OFFLINE_PUSH_INFO, info));
        total += string::encoded_len_repeated(AT_USER_ID_LIST, &self.at_user_id_list);
        let texts = [(ATTACHED_INFO, &self.attached_info), (EX, &self.ex)];
        total
            + texts
                .iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(tag, text)| string::encoded_len(*tag, text))
                .sum::<usize>()
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Keeps a field as it came. Groups, which nobody has used for long, are passed over.
fn keep(
    unknown: &mut Vec<u8>,
    tag: u32,
    wire_type: WireType,
    buf: &mut impl Buf,
    ctx: DecodeContext,
) -> Result<(), DecodeError> {
    macro_rules! keep_as {
        ($kind:ident, $type:ty) => {{
            let mut value = <$type>::default();
            encoding::$kind::merge(wire_type, &mut value, buf, ctx)?;
            encoding::$kind::encode(tag, &value, unknown);
        }};
    }
    match wire_type {
        WireType::Varint => keep_as!(uint64, u64),
        WireType::ThirtyTwoBit => keep_as!(fixed32, u32),
        WireType::SixtyFourBit => keep_as!(fixed64, u64),
        WireType::LengthDelimited => keep_as!(bytes, Vec<u8>),
        WireType::StartGroup | WireType::EndGroup => encoding::skip_field(wire_type, tag, buf, ctx)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Every field, and two that nobody here knows.
    fn whole() -> MsgData {
        MsgData {
            send_id: "a".into(),
            recv_id: "b".into(),
            group_id: "g".into(),
            client_msg_id: "c".into(),
            server_msg_id: "s".into(),
            sender_platform_id: 5,
            sender_nickname: "n".into(),
            sender_face_url: "f".into(),
            session_type: 1,
            msg_from: 100,
            content_type: 101,
            content: "hi".into(),
            seq: 7,
            send_time: 1_718_000_000_000,
            create_time: 1_718_000_000_001,
            status: 2,
            is_read: true,
            options: [("history".to_owned(), false), ("unreadCount".to_owned(), true)].into(),
            offline_push_info: Some(OfflinePushInfo { title: "t".into(), ..OfflinePushInfo::default() }),
            at_user_id_list: vec!["x".into(), String::new()],
            attached_info: "i".into(),
            ex: "e".into(),
            // 24, a text; 300, the number 1.
            unknown: b"\xc2\x01\x03new\xe0\x12\x01".to_vec(),
        }
    }

    /// As protobuf writes them, field by field.
    #[test]
    fn every_field_has_its_number() {
        let plain = MsgData {
            options: [("history".to_owned(), true)].into(),
            offline_push_info: None,
            at_user_id_list: vec!["x".into()],
            send_time: 300,
            create_time: 0,
            ..whole()
        };
        let expected =
            b"\x0a\x01a\x12\x01b\x1a\x01g\x22\x01c\x2a\x01s\x30\x05\x3a\x01n\x42\x01f\x48\x01\x50\x64\x58\x65\
            \x62\x02hi\x70\x07\x78\xac\x02\x88\x01\x02\x90\x01\x01\x9a\x01\x0b\x0a\x07history\x10\x01\xaa\x01\x01x\
            \xb2\x01\x01i\xba\x01\x01e\xc2\x01\x03new\xe0\x12\x01";
        assert_eq!(plain.encode_to_vec().escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!(MsgData::decode(&expected[..]), Ok(plain));
    }

    #[test]
    fn what_is_not_known_is_kept_wherever_it_stands() {
        let whole = whole();
        let written = whole.encode_to_vec();
        assert_eq!(written.len(), whole.encoded_len());
        assert_eq!(MsgData::decode(&written[..]).as_ref(), Ok(&whole));
        // All wire types, in front of what is known; 13 is nobody's.
        let mut bytes =
            b"\x6a\x02xy\xc5\x01\x01\x02\x03\x04\xc9\x01\x01\x02\x03\x04\x05\x06\x07\x08\xd0\x01\xac\x02".to_vec();
        let unknown = bytes.clone();
        bytes.extend(MsgData { unknown: vec![], ..whole.clone() }.encode_to_vec());
        let read = MsgData::decode(&bytes[..]).unwrap();
        assert_eq!(read, MsgData { unknown, ..whole.clone() });
        assert_eq!(MsgData::decode(&read.encode_to_vec()[..]), Ok(read));
        for cut in 1..3 {
            assert!(MsgData::decode(&written[..written.len() - cut]).is_err(), "{cut} bytes less");
        }
        let mut cleared = whole;
        cleared.clear();
        assert_eq!((cleared.encoded_len(), cleared), (0, MsgData::default()));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_again(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(read) = MsgData::decode(&bytes[..]) {
                let written = read.encode_to_vec();
                prop_assert_eq!(written.len(), read.encoded_len());
                prop_assert_eq!(MsgData::decode(&written[..]), Ok(read));
            }
        }
    }
}
