//! `ringsteer token`: a token for a user, to try things out with.

mod lifetime;
mod secret;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::Parser;
use ringsteer_openim::{
    platform::Platform,
    token::{Claims, UnixSeconds},
};
use serde::Serialize;

pub(super) use self::secret::SecretFile;
use super::output::{self, Output, Verdict, exit_codes};

/// Make a token that logs a user in
///
/// The token is a JWT signed with HS256, as OpenIM's own auth service makes them: whoever has the same secret believes
/// it. It names one user on one platform. It cannot be taken back; let it live as short as will do.
#[derive(Debug, Parser)]
#[command(after_help = concat!("\
Examples:
  ringsteer token --user alice --platform web
  ringsteer token --user alice --platform 2 --expires-in 15m --secret-file token-secret -o json
  curl --get http://192.0.2.1:10001/ --data-urlencode \"token=$(ringsteer token …)\" …

", exit_codes!()))]
pub struct Args {
    /// The user id
    #[arg(long)]
    user: String,
    /// What the user logs in from: a name such as ios, android, web, linux, or OpenIM's number, 1 to 11
    #[arg(long, value_parser = platform)]
    platform: Platform,
    /// How long it is good, from now: a number with s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "90d", value_parser = lifetime::parse)]
    expires_in: Duration,
    #[command(flatten)]
    secret: SecretFile,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Made {
    user: String,
    platform: i32,
    expires_s: UnixSeconds,
    token: String,
}

impl Args {
    /// Makes the token and prints it.
    pub fn run(self) -> Result<Verdict> {
        let made = make(&self.secret, self.user, self.platform, self.expires_in)?;
        output::print(&match self.output {
            Output::Table => made.token + "\n",
            Output::Json => output::json(&made)?,
        })?;
        Ok(Verdict::Fine)
    }
}

fn make(secret: &SecretFile, user: String, platform: Platform, lifetime: Duration) -> Result<Made> {
    let keys = secret.keys()?;
    let now = now();
    let claims = Claims { user, platform, expires: now.saturating_add_unsigned(lifetime.as_secs()) };
    let token = keys.sign(&claims, now);
    Ok(Made { user: claims.user, platform: platform.number(), expires_s: claims.expires, token })
}

/// A token for one hour.
pub(super) fn for_an_hour(secret: &SecretFile, user: &str, platform: Platform) -> Result<String> {
    Ok(make(secret, user.to_owned(), platform, Duration::from_secs(3600))?.token)
}

fn now() -> UnixSeconds {
    // A clock before 1970 makes tokens that have expired, which is what such a clock says.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as UnixSeconds)
}

/// A platform's number, or its name in any letter case, without spaces.
pub(super) fn platform(text: &str) -> Result<Platform, String> {
    if let Ok(number) = text.parse::<i64>() {
        return Platform::try_from(number).map_err(|none| none.to_string());
    }
    let plain = |name: &str| name.to_ascii_lowercase().replace([' ', '-', '_'], "");
    Platform::ALL.into_iter().find(|platform| plain(platform.name()) == plain(text)).ok_or_else(|| {
        let names: Vec<_> = Platform::ALL.iter().map(|platform| plain(platform.name())).collect();
        format!("no such platform; they are {}, or 1 to 11", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_names_and_numbers() {
        let cases = [
            ("web", Platform::Web),
            ("iOS", Platform::Ios),
            ("Android-Pad", Platform::AndroidPad),
            ("7", Platform::Linux),
        ];
        for (text, expected) in cases {
            assert_eq!(platform(text), Ok(expected));
        }
        assert_eq!(platform("12").unwrap_err(), "there is no platform 12; they are 1 to 11");
        let names = "ios, android, windows, macos, web, miniweb, linux, androidpad, ipad, admin, harmonyos";
        assert_eq!(platform("tv").unwrap_err(), format!("no such platform; they are {names}, or 1 to 11"));
    }
}
