//! How fast counters move. Pure.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::control::Stats;

/// Shortest interval that is shown: a person sees nothing in less, and reading takes time itself.
const SHORTEST: Duration = Duration::from_millis(100);

/// What has moved between two readings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// When the second reading was taken, in milliseconds since the node started.
    pub taken_at_ms: u64,
    /// The time between them.
    pub seconds: f64,
    /// Those that have moved.
    pub counters: BTreeMap<String, Moved>,
    /// Flows in the table.
    pub flows: u64,
    /// Flows it holds at most.
    pub max_flows: u64,
}

/// A counter that has moved.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Moved {
    /// How fast, a second.
    pub per_s: f64,
    /// How far it has come.
    pub total: u64,
}

impl Rates {
    /// From `before` to `after`.
    pub fn between(before: &Stats, after: &Stats) -> Self {
        // Two readings within a millisecond: the first moment of the second one.
        let seconds = after.taken_at_ms.saturating_sub(before.taken_at_ms).max(1) as f64 / 1000.0;
        let moved = |(name, &total): (&String, &u64)| {
            let known = before.counters.get(name).copied().unwrap_or(0);
            // One that has fallen has begun anew: the maps were removed and made again.
            let more = total.checked_sub(known).unwrap_or(total);
            (more > 0).then(|| (name.clone(), Moved { per_s: more as f64 / seconds, total }))
        };
        Self {
            taken_at_ms: after.taken_at_ms,
            seconds,
            counters: after.counters.iter().filter_map(moved).collect(),
            flows: after.flows,
            max_flows: after.max_flows,
        }
    }
}

/// An interval as the command line has it: `2`, `0.5`, `500ms`, `2s`, `1m`.
pub fn interval(text: &str) -> Result<Duration, String> {
    let number_ends = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let unit_s = match unit.trim() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        _ => return Err(format!("{unit:?} is no unit of time; write ms, s or m")),
    };
    let number: f64 = number.parse().map_err(|_| "write a number of seconds, such as 2 or 0.5, or 500ms".to_owned())?;
    match Duration::try_from_secs_f64(number * unit_s) {
        Ok(interval) if interval >= SHORTEST => Ok(interval),
        Ok(_) => Err(format!("the shortest interval is {} ms", SHORTEST.as_millis())),
        Err(_) => Err("that is too long to wait for".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(taken_at_ms: u64, counters: &[(&str, u64)]) -> Stats {
        let counters = counters.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
        Stats { taken_at_ms, counters, flows: 7, max_flows: 100 }
    }

    #[test]
    fn what_stands_still_is_left_out() {
        let before = stats(10_000, &[("delivered", 100), ("tunnelled", 5), ("not_ours", 0)]);
        let after = stats(12_000, &[("delivered", 150), ("tunnelled", 5), ("not_ours", 1)]);
        let rates = Rates::between(&before, &after);
        assert_eq!(rates.seconds, 2.0);
        assert_eq!((rates.flows, rates.max_flows, rates.taken_at_ms), (7, 100, 12_000));
        let expected = [("delivered", Moved { per_s: 25.0, total: 150 }), ("not_ours", Moved { per_s: 0.5, total: 1 })];
        assert_eq!(rates.counters, expected.map(|(name, moved)| (name.to_owned(), moved)).into());
    }

    #[test]
    fn counters_that_begin_anew_or_are_new_count_from_nothing() {
        let before = stats(1000, &[("delivered", 100)]);
        let after = stats(2000, &[("delivered", 30), ("tunnelled", 4)]);
        let rates = Rates::between(&before, &after).counters;
        assert_eq!(rates["delivered"], Moved { per_s: 30.0, total: 30 });
        assert_eq!(rates["tunnelled"], Moved { per_s: 4.0, total: 4 });
        // Two readings of one moment, or in the wrong order, are no division by zero.
        let same = Rates::between(&after, &stats(2000, &[("delivered", 31)]));
        assert!(same.counters["delivered"].per_s.is_finite());
        assert!(Rates::between(&after, &before).counters["delivered"].per_s.is_finite());
    }

    #[test]
    fn intervals_are_written_in_several_ways() {
        for (text, expected_ms) in
            [("2", 2000), ("0.5", 500), ("500ms", 500), ("2s", 2000), ("1m", 60_000), ("1.5 s", 1500), ("100ms", 100)]
        {
            assert_eq!(interval(text), Ok(Duration::from_millis(expected_ms)), "{text}");
        }
        for text in ["", "s", "0", "99ms", "-1", "1h", "1e9", "1.2.3", "99999999999999999999999s", "٣"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
