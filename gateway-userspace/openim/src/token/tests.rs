use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::login::{Compression, Encoding};

const NOW: UnixSeconds = 1_718_000_000;
const LEEWAY: i64 = 10;

fn keys_of(secrets: &[&str]) -> Keys {
    Keys::new(secrets.iter().map(|secret| secret.as_bytes().to_vec()), Duration::from_secs(LEEWAY as u64)).unwrap()
}

fn keys() -> Keys {
    keys_of(&["openIM123"])
}

fn claims() -> Claims {
    Claims { user: "用户7".into(), platform: Platform::Web, expires: NOW + 3600 }
}

fn login(token: String) -> Login {
    Login {
        user: "用户7".into(),
        token,
        platform: Platform::Web,
        operation_id: String::new(),
        encoding: Encoding::Gob,
        compression: Compression::None,
        background: false,
        wants_reply: false,
        sdk_version: String::new(),
    }
}

/// A token of any header and claims, well signed.
fn signed(header: &str, claims: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let start = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"openIM123").unwrap();
    mac.update(start.as_bytes());
    format!("{start}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn code(token: &str, now: UnixSeconds) -> Option<Code> {
    keys().verify(token, now).err().map(|error| error.code)
}

/// The example of RFC 7515, appendix A.1: made by nobody here.
#[test]
fn a_signature_made_elsewhere_is_good() {
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let keys = Keys::new([URL_SAFE_NO_PAD.decode(secret).unwrap()], Duration::ZERO).unwrap();
    // Good but for its platform, which is looked at last.
    let error = keys.verify(token, 1_300_819_379).unwrap_err();
    assert_eq!(error, ApiError::new(Code::TokenInvalid, "the token is for no platform that there is"));
    assert_eq!(keys.verify(token, 1_300_819_380).unwrap_err().code, Code::TokenExpired);
}

#[test]
fn what_is_signed_is_believed() {
    let token = keys().sign(&claims(), NOW);
    assert_eq!(keys().verify(&token, NOW), Ok(claims()));
    assert_eq!(keys().authenticate(&login(token), &Kicked::default(), NOW), Ok(claims()));
}

#[test]
fn each_defect_has_its_code() {
    let good = r#"{"UserID":"u","PlatformID":5,"exp":1718003600,"nbf":1718000000,"iat":1718000000}"#;
    assert_eq!(code(&signed(HEADER, good), NOW), None);
    let with = |from: &str, to: &str| signed(HEADER, &good.replace(from, to));
    let stranger = keys_of(&["other"]).sign(&claims(), NOW);
    let cases = [
        (String::new(), Code::TokenMalformed),
        ("a.b".into(), Code::TokenMalformed),
        ("a.b.c.d".into(), Code::TokenMalformed),
        ("YQ.YQ.YQ".into(), Code::TokenMalformed),
        (signed(HEADER, good) + "=", Code::TokenMalformed),
        (signed(HEADER, "[]"), Code::TokenMalformed),
        (with("\"u\"", "7"), Code::TokenMalformed),
        (with(":5", ":\"5\""), Code::TokenMalformed),
        (signed(r#"{"typ":"JWT"}"#, good), Code::TokenMalformed),
        (signed(r#"{"alg":"none"}"#, good), Code::TokenUnknown),
        (signed(r#"{"alg":"HS512"}"#, good), Code::TokenUnknown),
        (stranger.clone(), Code::TokenUnknown),
        (signed(HEADER, good).rsplit_once('.').unwrap().0.to_owned() + ".", Code::TokenUnknown),
        (with("\"exp\":1718003600,", ""), Code::TokenInvalid),
        (with(":5", ":99"), Code::TokenInvalid),
        (with("\"PlatformID\":5,", ""), Code::TokenInvalid),
    ];
    for (token, expected) in cases {
        assert_eq!(code(&token, NOW), Some(expected), "{token}");
    }
    // A stranger is not told about times.
    assert_eq!(code(&stranger, NOW + 1_000_000), Some(Code::TokenUnknown));
}

#[test]
fn times_have_a_leeway() {
    let token = |nbf: i64, iat: i64| {
        let claims = format!(r#"{{"UserID":"u","PlatformID":5,"exp":{},"nbf":{nbf},"iat":{iat}}}"#, NOW + 3600);
        signed(HEADER, &claims)
    };
    assert_eq!(code(&token(NOW, NOW), NOW + 3600 + LEEWAY - 1), None);
    assert_eq!(code(&token(NOW, NOW), NOW + 3600 + LEEWAY), Some(Code::TokenExpired));
    assert_eq!(code(&token(NOW + LEEWAY, NOW), NOW), None);
    assert_eq!(code(&token(NOW + LEEWAY + 1, NOW), NOW), Some(Code::TokenNotValidYet));
    assert_eq!(code(&token(NOW, NOW + LEEWAY), NOW), None);
    assert_eq!(code(&token(NOW, NOW + LEEWAY + 1), NOW), Some(Code::TokenUnknown));
    // Go writes fractions when it is told to.
    let fraction = signed(HEADER, r#"{"UserID":"u","PlatformID":5,"exp":1718003600.5}"#);
    assert_eq!(code(&fraction, NOW + 3600 + LEEWAY), None);
}

#[test]
fn secrets_can_be_changed_while_tokens_live() {
    let old_token = keys_of(&["old"]).sign(&claims(), NOW);
    let both = keys_of(&["new", "old"]);
    assert_eq!(both.verify(&old_token, NOW), Ok(claims()));
    let new_token = both.sign(&claims(), NOW);
    let new = keys_of(&["new"]);
    assert_eq!(new.verify(&new_token, NOW), Ok(claims()));
    assert_eq!(new.verify(&old_token, NOW).unwrap_err().code, Code::TokenUnknown);
    for none in [vec![], vec![b"a".to_vec(), vec![]]] {
        assert_eq!(Keys::new(none, Duration::ZERO).unwrap_err(), NoSecret);
    }
    assert!(!format!("{both:?}").contains("old"));
}

#[test]
fn a_token_is_one_users_on_one_platform() {
    let login = login(keys().sign(&claims(), NOW));
    let kicked = &mut Kicked::default();
    let other = Login { user: "other".into(), ..login.clone() };
    assert_eq!(keys().authenticate(&other, kicked, NOW).unwrap_err().code, Code::TokenInvalid);
    let other = Login { platform: Platform::Ios, ..login.clone() };
    assert_eq!(keys().authenticate(&other, kicked, NOW).unwrap_err().code, Code::TokenInvalid);

    kicked.insert(TokenDigest::of(&login.token), NOW + 3600);
    assert_eq!(keys().authenticate(&login, kicked, NOW).unwrap_err().code, Code::TokenKicked);
    kicked.forget_expired(NOW + 3599);
    assert_eq!(kicked.len(), 1);
    kicked.forget_expired(NOW + 3600);
    assert!(kicked.is_empty());
}

#[test]
fn of_too_many_kicked_those_that_expire_first_are_forgotten() {
    let mut kicked = Kicked::new(2);
    let [a, b, c] = ["a", "b", "c"].map(TokenDigest::of);
    assert!(kicked.insert(a, 30) && kicked.insert(b, 10));
    assert!(!kicked.insert(b, 20), "it is known");
    assert!(kicked.insert(c, 40));
    assert!(!kicked.insert(b, 20), "there is no room for it");
    assert!(kicked.contains(&a) && !kicked.contains(&b) && kicked.contains(&c));
    assert_eq!(kicked.len(), 2);
}

proptest! {
    #[test]
    fn whoever_is_signed_for_is_who_it_is(user in "\\PC{1,40}", platform in 1_i64..12, lives in 1_i64..1_000_000) {
        let claims = Claims { user, platform: platform.try_into().unwrap(), expires: NOW + lives };
        let token = keys().sign(&claims, NOW);
        prop_assert_eq!(keys().verify(&token, NOW), Ok(claims));
    }

    /// One changed character, wherever it is, and nobody believes it any more.
    #[test]
    fn a_changed_token_is_not_believed(at: prop::sample::Index, to in "[A-Za-z0-9_.-]") {
        let token = keys().sign(&claims(), NOW);
        let at = at.index(token.len());
        let changed = format!("{}{to}{}", &token[..at], &token[at + 1..]);
        prop_assume!(changed != token);
        prop_assert!(keys().verify(&changed, NOW).is_err());
    }

    #[test]
    fn no_token_makes_it_panic(token in "\\PC{0,200}", parts in "[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}",
        claims in "\\PC{0,100}") {
        let _ = keys().verify(&token, NOW);
        let _ = keys().verify(&parts, NOW);
        let _ = keys().verify(&signed(HEADER, &claims), NOW);
    }
}

#[test]
fn kicked_tokens_can_be_told_part_by_part() {
    let mut kicked = Kicked::default();
    let all: Vec<_> = (0..10).map(|number| (100 + number % 3, TokenDigest::of(&number.to_string()))).collect();
    all.iter().for_each(|&(expires, token)| assert!(kicked.insert(token, expires)));
    let (mut told, mut after) = (Vec::new(), None);
    loop {
        let some = kicked.after(after, 4);
        let Some(&last) = some.last() else { break };
        assert!(some.len() <= 4 && some.is_sorted());
        told.extend(some);
        after = Some(last);
    }
    assert!(told.is_sorted() && told.len() == all.len() && all.iter().all(|token| told.contains(token)));
}

#[test]
fn a_kicked_token_is_remembered_for_as_long_as_it_would_be_good() {
    let token = TokenDigest::of("t");
    let mut kicked = Kicked::default();
    kicked.insert(token, NOW);
    kicked.forget_expired(keys().expired_until(NOW + LEEWAY - 1));
    assert!(kicked.contains(&token));
    kicked.forget_expired(keys().expired_until(NOW + LEEWAY));
    assert!(!kicked.contains(&token));
}
