use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use ringsteer_websocket::request::parse_head;

use super::*;

fn parse_bytes(request: &[u8]) -> Result<Login, Refused> {
    let (head, _) = parse_head(request).unwrap().unwrap();
    Login::parse(&head)
}

fn parse(target: &str) -> Result<Login, Refused> {
    parse_bytes(format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes())
}

fn parse_v(json: &str) -> Result<Login, Refused> {
    parse(&format!("/?v={}", URL_SAFE_NO_PAD.encode(json)))
}

/// The login that all forms below spell.
fn expected() -> Login {
    Login {
        user: "用户7".into(),
        token: "a.b.c".into(),
        platform: Platform::Android,
        operation_id: "op1".into(),
        encoding: Encoding::Gob,
        compression: Compression::Gzip,
        background: false,
        wants_reply: false,
        sdk_version: String::new(),
    }
}

#[test]
fn native() {
    let query = "sendID=用户7&token=a.b.c&platformID=2&operationID=op1&isBackground=false";
    assert_eq!(parse(&format!("/?{query}&compression=gzip")), Ok(expected()));
    // The JavaScript of older hosts puts a path before it; any will do.
    assert_eq!(parse(&format!("/msg_gateway?{query}&compression=gzip")), Ok(expected()));
    let newest = Login { sdk_version: "v3.8.3".into(), ..expected() };
    assert_eq!(parse(&format!("/?{query}&sdkVersion=v3.8.3&compression=gzip")), Ok(newest));
}

#[test]
fn wasm() {
    let query = "compression=gzip&isBackground=true&isMsgResp=true&operationID=op1&platformID=5&sendID=%E7%94%A8%E6%88%B7+7&token=a.b.c";
    let login =
        Login { user: "用户 7".into(), platform: Platform::Web, background: true, wants_reply: true, ..expected() };
    assert_eq!(parse(&format!("/?{query}")), Ok(login));
}

#[test]
fn js() {
    let query = "sendID=%E7%94%A8%E6%88%B77&token=a.b.c&platformID=5&operationID=op1&isBackground=false&isMsgResp=true&sdkType=js";
    let login = Login {
        platform: Platform::Web,
        encoding: Encoding::Json,
        compression: Compression::None,
        wants_reply: true,
        ..expected()
    };
    assert_eq!(parse(&format!("/?{query}")), Ok(login));
}

#[test]
fn v_wins_over_the_rest() {
    let json = r#"{"token":"a.b.c","userID":"用户7","platformID":2,"operationID":"op1","compression":"gzip",
        "sdkType":"js","sendResponse":true,"background":true,"sdkVersion":"v3.8.4","more":[1]}"#;
    let login = Login {
        encoding: Encoding::Json,
        background: true,
        wants_reply: true,
        sdk_version: "v3.8.4".into(),
        ..expected()
    };
    assert_eq!(parse_v(json), Ok(login.clone()));
    let beside = format!("/?sendID=other&platformID=1&isMsgResp=false&v={}&token=x", URL_SAFE_NO_PAD.encode(json));
    assert_eq!(parse(&beside), Ok(login));
    // An empty one is none.
    let query = "v=&sendID=用户7&token=a.b.c&platformID=2&operationID=op1&compression=gzip";
    assert_eq!(parse(&format!("/?{query}")), Ok(expected()));
}

#[test]
fn v_may_leave_out_what_is_not_required() {
    let json = r#"{"token":"a.b.c","userID":"u","platformID":2,"operationID":null,"background":null}"#;
    let login = parse_v(json).unwrap();
    assert_eq!((login.user.as_str(), login.operation_id.as_str()), ("u", ""));
    assert!(!login.background && !login.wants_reply && login.compression == Compression::None);
}

#[test]
fn a_header_may_ask_for_compression() {
    let request = b"GET /?sendID=u&token=t&platformID=1 HTTP/1.1\r\nCompression: gzip\r\n\r\n";
    assert_eq!(parse_bytes(request).unwrap().compression, Compression::Gzip);
}

#[test]
fn what_old_clients_leave_out_is_not_needed() {
    let login = parse("/?sendID=u&token=t&platformID=+1&isBackground=perhaps&compression=br").unwrap_err();
    assert_eq!(login.error.detail, "platformID is missing or no integer", "`+` is a space");
    let login = parse("/?sendID=u&token=t&platformID=%2B1&isBackground=perhaps&compression=br").unwrap();
    assert_eq!(login.platform, Platform::Ios);
    assert!(!login.background && login.compression == Compression::None && login.operation_id.is_empty());
}

#[test]
fn what_is_required_is_asked_for_by_name() {
    let long = format!("/?sendID={}&token=t&platformID=1", "u".repeat(257));
    let cases = [
        ("/", "token is missing"),
        ("/?sendID=u&platformID=1", "token is missing"),
        ("/?sendID=u&token=&platformID=1", "token is missing"),
        ("/?token=t&platformID=1", "sendID is missing"),
        ("/?sendID=%ff&token=t&platformID=1", "sendID is missing"),
        ("/?sendID=u&token=t", "platformID is missing or no integer"),
        ("/?sendID=u&token=t&platformID=ios", "platformID is missing or no integer"),
        ("/?sendID=u&token=t&platformID=12", "platformID: there is no platform 12; they are 1 to 11"),
        ("/?sendID=u&token=t&platformID=1&sdkType=rust", "sdkType must be go or js"),
        ("/?v=!", "v is not base64url"),
        (&long, "sendID has more than 256 bytes"),
    ];
    for (target, why) in cases {
        let refused = parse(target).unwrap_err();
        assert_eq!(refused.error, ApiError::new(Code::ConnectionArgs, why), "{target}");
        assert!(!refused.wants_reply, "{target}");
        let joint = if target.contains('?') { '&' } else { '?' };
        let refused = parse(&format!("{target}{joint}isMsgResp=true")).unwrap_err();
        assert_eq!(refused, Refused { error: bad(why), wants_reply: true }, "{target}");
    }
    for json in ["", "[]", "7", r#"{"token":7}"#, r#"{"platformID":"2"}"#, r#"{"platformID":2.5}"#] {
        let refused = parse_v(json).unwrap_err();
        assert_eq!(refused.error.code, Code::ConnectionArgs);
        let expected = if json.is_empty() { "token is missing" } else { "v is no login: " };
        assert!(refused.error.detail.starts_with(expected), "{json}: {refused:?}");
    }
    let refused = parse_v(r#"{"sendResponse":true,"token":"t"}"#).unwrap_err();
    assert_eq!(refused, Refused { error: bad("sendID is missing"), wants_reply: true });
}

#[test]
fn notes_are_cut_at_a_character() {
    let login = parse(&format!("/?sendID=u&token=t&platformID=1&operationID=a{}", "é".repeat(100))).unwrap();
    assert_eq!(login.operation_id, format!("a{}", "é".repeat(63)));
}

proptest! {
    #[test]
    fn no_target_makes_it_panic(target in "/[?&=%+a-zA-Z0-9;._]{0,200}", v in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&target);
        let _ = parse(&format!("/?v={}", URL_SAFE_NO_PAD.encode(&v)));
    }
}
