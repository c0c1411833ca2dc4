//! How long: `45s`, `15m`, `12h`, `90d`.

use std::time::Duration;

/// Ten years. A token cannot be taken back.
const LONGEST_DAYS: u64 = 3650;

/// Reads a time span.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("a number and s, m, h or d, such as 15m, up to {LONGEST_DAYS}d");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    let span = number.checked_mul(seconds).filter(|&span| span <= LONGEST_DAYS * 86_400).ok_or_else(wrong)?;
    Ok(Duration::from_secs(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_units() {
        for (text, seconds) in [("45s", 45), ("15m", 900), ("12h", 43_200), ("90d", 7_776_000), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "s", "15", "15 m", "-1h", "1.5h", "3651d", "99999999999999999999s", "1w", "é"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
