//! What a line of input means.

/// Whom a text is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// A user.
    User(String),
    /// A group.
    Group(String),
}

/// What a line wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// A text, to somebody or to whom the last one went.
    Say(Option<Whom>, String),
    Newest,
    Pull {
        conversation: String,
        from: i64,
        to: i64,
    },
    Watch {
        more: Vec<String>,
        fewer: Vec<String>,
    },
    Background(bool),
    Request {
        id: i32,
        data: Vec<u8>,
    },
    Logout,
    Quit,
}

/// Reads `@USER` or `#GROUP`.
pub(super) fn whom(text: &str) -> Result<Whom, String> {
    let name = text.get(1..).filter(|name| !name.is_empty());
    match (text.chars().next(), name) {
        (Some('@'), Some(name)) => Ok(Whom::User(name.to_owned())),
        (Some('#'), Some(name)) => Ok(Whom::Group(name.to_owned())),
        _ => Err("@USER or #GROUP".into()),
    }
}

/// Reads a line; an empty one means nothing.
pub(super) fn parse(line: &str) -> Result<Option<Command>, String> {
    let line = line.trim();
    let (first, rest) = line.split_once(char::is_whitespace).map_or((line, ""), |(first, rest)| (first, rest.trim()));
    let words: Vec<&str> = rest.split_whitespace().collect();
    let names = || words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let command = match (first, &words[..]) {
        ("", _) => return Ok(None),
        (whom_, _) if whom_.starts_with(['@', '#']) => {
            let whom = whom(whom_)?;
            if rest.is_empty() {
                return Err(format!("what is to be said to {whom_}?"));
            }
            Command::Say(Some(whom), rest.to_owned())
        }
        ("/newest", []) => Command::Newest,
        ("/pull", [conversation, from, to]) => {
            let number = |text: &str| text.parse().map_err(|_| format!("{text} is no sequence number"));
            Command::Pull { conversation: (*conversation).to_owned(), from: number(from)?, to: number(to)? }
        }
        ("/watch", [_, ..]) => Command::Watch { more: names(), fewer: vec![] },
        ("/unwatch", [_, ..]) => Command::Watch { more: vec![], fewer: names() },
        ("/background", ["on"]) => Command::Background(true),
        ("/background", ["off"]) => Command::Background(false),
        ("/request", [id]) => Command::Request { id: request(id)?, data: vec![] },
        ("/request", [id, hex]) => Command::Request { id: request(id)?, data: bytes(hex)? },
        ("/logout", []) => Command::Logout,
        ("/quit", []) => Command::Quit,
        (unknown, _) if unknown.starts_with('/') => {
            return Err(format!(
                "{line}? There are /newest, /pull CONVERSATION FROM TO, /watch USER…, /unwatch USER…, \
                 /background on|off, /request ID [HEX], /logout and /quit"
            ));
        }
        _ => Command::Say(None, line.to_owned()),
    };
    Ok(Some(command))
}

fn request(text: &str) -> Result<i32, String> {
    text.parse().map_err(|_| format!("{text} is no id of a request"))
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{hex} are no hexadecimal digits in pairs");
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8).ok_or_else(wrong);
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match *pair {
            [high, low] => Ok(digit(high)? << 4 | digit(low)?),
            _ => Err(wrong()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_mean_commands() {
        let user = |name: &str| Some(Whom::User(name.into()));
        let cases = [
            ("  ", None),
            ("@bob hello  there ", Some(Command::Say(user("bob"), "hello  there".into()))),
            ("#team\thi", Some(Command::Say(Some(Whom::Group("team".into())), "hi".into()))),
            ("just so @bob", Some(Command::Say(None, "just so @bob".into()))),
            ("/newest", Some(Command::Newest)),
            ("/pull si_a_b 1 20", Some(Command::Pull { conversation: "si_a_b".into(), from: 1, to: 20 })),
            ("/watch a b", Some(Command::Watch { more: vec!["a".into(), "b".into()], fewer: vec![] })),
            ("/unwatch a", Some(Command::Watch { more: vec![], fewer: vec!["a".into()] })),
            ("/background on", Some(Command::Background(true))),
            ("/background off", Some(Command::Background(false))),
            ("/request 1004", Some(Command::Request { id: 1004, data: vec![] })),
            ("/request -1 0a01Ff", Some(Command::Request { id: -1, data: vec![10, 1, 255] })),
            ("/logout", Some(Command::Logout)),
            (" /quit ", Some(Command::Quit)),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_means_nothing_is_explained() {
        for line in [
            "@bob",
            "@ hello",
            "#",
            "/pull a 1",
            "/pull a b c",
            "/watch",
            "/background",
            "/request x",
            "/request 1 0",
            "/request 1 é",
            "/hello",
            "/",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
