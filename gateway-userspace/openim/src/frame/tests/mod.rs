//! | file | subject |
//! |---|---|
//! | `vectors` | frames that Go has written |
//! | `foreign` | frames of other definitions than ours, written here from the format's description |

mod foreign;
mod vectors;

use proptest::prelude::*;

use super::*;

fn request() -> Request {
    Request {
        id: id::SEND,
        token: String::new(),
        send_id: "用户7".into(),
        operation_id: "op".into(),
        msg_incr: "用户7_1".into(),
        data: Bytes::from_static(b"\0data\xff"),
    }
}

fn response() -> Response {
    Response {
        id: id::SEND,
        msg_incr: "用户7_1".into(),
        operation_id: "op".into(),
        err_code: 1501,
        err_msg: "TokenExpiredError".into(),
        data: Bytes::from_static(b"\0data\xff"),
    }
}

const JSON: Wire = Wire::ALL[2];
const GZIP: Wire = Wire::ALL[1];

#[test]
fn json_is_what_the_js_sdk_writes_and_reads() {
    let text =
        r#"{"data":"CgF1","operationID":"op","sendID":"u","reqIdentifier":1001,"msgIncr":"u_1","token":"t","more":{}}"#;
    let request = Request {
        id: 1001,
        token: "t".into(),
        send_id: "u".into(),
        operation_id: "op".into(),
        msg_incr: "u_1".into(),
        data: Bytes::from_static(b"\x0a\x01u"),
    };
    assert_eq!(JSON.read(&Bytes::from(text)), Ok(request));
    let bytes = JSON.write(&Response { err_code: -1, ..response() });
    assert_eq!(
        str::from_utf8(&bytes).unwrap(),
        r#"{"reqIdentifier":1003,"msgIncr":"用户7_1","operationID":"op","errCode":-1,"errMsg":"TokenExpiredError","data":"AGRhdGH/"}"#
    );
    let kicked = JSON.write(&Response { id: id::KICKED, ..Response::default() });
    assert_eq!(
        str::from_utf8(&kicked).unwrap(),
        r#"{"reqIdentifier":2002,"msgIncr":"","operationID":"","errCode":0,"errMsg":"","data":null}"#
    );
}

#[test]
fn json_may_leave_out_and_be_null() {
    let request = Request { id: 2003, ..Request::default() };
    for text in [r#"{"reqIdentifier":2003}"#, r#"{"reqIdentifier":2003,"data":null,"token":null,"sendID":null}"#] {
        assert_eq!(JSON.read(&Bytes::from(text)), Ok(request.clone()));
    }
    for text in [
        "",
        "null",
        "[]",
        "7",
        r#"{"reqIdentifier":"1"}"#,
        r#"{"reqIdentifier":2147483648}"#,
        r#"{"data":"a"}"#,
        r#"{"data":7}"#,
        "{}x",
    ] {
        assert!(matches!(JSON.read(&Bytes::from(text)), Err(BadFrame::Json(_))), "{text}");
    }
}

#[test]
fn a_frame_has_a_largest_size_packed_and_unpacked() {
    let fitting = |length: usize| Bytes::from(vec![b' '; length]);
    assert_eq!(JSON.read(&fitting(MAX_FRAME_BYTES + 1)), Err(BadFrame::TooLarge(MAX_FRAME_BYTES + 1)));
    assert!(matches!(JSON.read(&fitting(MAX_FRAME_BYTES)), Err(BadFrame::Json(_))));

    let of_data = |length: usize| GZIP.write_request(&Request { data: vec![7; length].into(), ..request() });
    let around = GZIP.unpack(&of_data(100_000), usize::MAX - 1).unwrap().len() - 100_000;
    let largest = of_data(MAX_UNPACKED_BYTES - around);
    assert!(largest.len() < MAX_FRAME_BYTES);
    assert_eq!(GZIP.read(&largest).unwrap().data.len(), MAX_UNPACKED_BYTES - around);
    assert_eq!(GZIP.read(&of_data(MAX_UNPACKED_BYTES - around + 1)), Err(BadFrame::TooLargeUnpacked));
    assert_eq!(GZIP.read(&of_data(MAX_UNPACKED_BYTES + MAX_UNPACKED_BYTES / 8)), Err(BadFrame::TooLargeUnpacked));
}

#[test]
fn gzip_may_have_several_parts_and_must_be_whole() {
    let frame = gob::write_request(&request());
    let (start, end) = frame.split_at(50);
    let parts = [gzip::pack(start), gzip::pack(end)].concat();
    assert_eq!(GZIP.read(&parts.into()), Ok(request()));
    let whole = GZIP.write_request(&request());
    for bad in [Bytes::new(), whole.slice(..whole.len() - 1), whole.slice(1..), [&whole[..], b"x"].concat().into()] {
        assert_eq!(GZIP.read(&bad), Err(BadFrame::Gzip));
    }
    assert_eq!(GZIP.read(&frame.into()), Err(BadFrame::Gzip));
}

#[test]
fn formats_are_not_taken_for_each_other() {
    for wire in Wire::ALL {
        for other in Wire::ALL {
            let read = wire.read(&other.write_request(&request()));
            assert_eq!(read.is_ok(), wire == other, "{other:?} as {wire:?}: {read:?}");
        }
    }
}

prop_compose! {
    fn any_request()(
        id: i32, token in "\\PC{0,9}", send_id in "\\PC{0,300}", operation_id in "\\PC{0,9}", msg_incr in "\\PC{0,9}",
        data in prop::collection::vec(any::<u8>(), 0..2000),
    ) -> Request {
        Request { id, token, send_id, operation_id, msg_incr, data: data.into() }
    }
}

prop_compose! {
    fn any_response()(
        id: i32, msg_incr in "\\PC{0,9}", operation_id in "\\PC{0,9}", err_code: i64, err_msg in "\\PC{0,300}",
        data in prop::collection::vec(any::<u8>(), 0..2000),
    ) -> Response {
        Response { id, msg_incr, operation_id, err_code, err_msg, data: data.into() }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(request in any_request(), response in any_response()) {
        for wire in Wire::ALL {
            prop_assert_eq!(wire.read(&wire.write_request(&request)), Ok(request.clone()));
            prop_assert_eq!(wire.read_response(&wire.write(&response), MAX_UNPACKED_BYTES), Ok(response.clone()));
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for wire in Wire::ALL {
            let _ = wire.read(&bytes.clone().into());
        }
        let _ = GZIP.read(&gzip::pack(&bytes).into());
    }

    /// Garbage that looks more like a frame: a good one, changed or cut somewhere.
    #[test]
    fn no_damage_makes_it_panic(request in any_request(), at: prop::sample::Index, byte: u8, cut: bool) {
        let mut frame = gob::write_request(&request);
        let at = at.index(frame.len());
        if cut { frame.truncate(at) } else { frame[at] = byte };
        let read = Wire::ALL[0].read(&frame.into());
        prop_assert!(!cut || read.is_err());
    }
}
