//! The clock that cookies live by.

use std::time::Duration;

use crate::doctor::{
    facts::Facts,
    finding::{Check, Finding},
    subject::Subject,
};

/// NTP.
pub const SYNCHRONISED: Check = Check {
    name: "clock",
    why: "One node makes a cookie and another checks it, by the slot of time it was made in. Clocks may differ by less \
          than a slot (68.7 s unless configured).",
};

/// The offset of `CLOCK_TAI`.
pub const TAI: Check = Check {
    name: "clock-tai",
    why: "Slots are counted by CLOCK_TAI. Some time daemons tell the kernel that it is 37 s ahead, others leave it at 0: \
          where a fleet has both, that is a difference like any other.",
};

/// What a daemon that knows leap seconds sets.
const LEAP_SECONDS_S: u64 = 37;

pub(super) fn all(subject: &Subject, facts: &Facts) -> Vec<Finding> {
    let clock = match &facts.clock {
        Ok(clock) => clock,
        Err(unknown) => return vec![SYNCHRONISED.unchecked(unknown.0.clone())],
    };
    let alone = subject.node.as_ref().is_none_or(|node| node.others().next().is_none());
    let synchronised = if clock.synchronised {
        SYNCHRONISED.ok("kept by a time daemon")
    } else if alone {
        SYNCHRONISED.ok("not kept by a time daemon; there is no other node to agree with")
    } else {
        SYNCHRONISED.warning(
            "the kernel knows of nothing that keeps the clock synchronised",
            "run a time daemon, such as chrony: apt install chrony",
        )
    };
    let mut findings = vec![synchronised];
    findings.extend(subject.node.as_ref().map(|node| tai(node.slot_shift, clock.tai_offset_s)));
    findings
}

fn tai(slot_shift: u8, offset_s: i32) -> Finding {
    let slot = Duration::from_nanos(1 << slot_shift);
    let found = format!("CLOCK_TAI is {offset_s} s ahead, and a slot lasts {:.1} s", slot.as_secs_f64());
    if slot > Duration::from_secs(LEAP_SECONDS_S) {
        TAI.ok(found)
    } else {
        TAI.warning(
            format!("{found}: nodes whose time daemons set the offset and nodes whose do not would refuse each other's cookies"),
            "make sure that all nodes show the same offset here, or set `handshake_slot_shift = 36` on all of them",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        finding::Outcome,
        fixtures::{healthy, node, subject},
    };

    fn outcome(subject: &Subject, facts: &Facts, check: &Check) -> Outcome {
        all(subject, facts).into_iter().find(|finding| finding.check == check.name).unwrap().outcome
    }

    #[test]
    fn a_clock_that_nobody_keeps() {
        let mut facts = healthy();
        facts.clock.as_mut().unwrap().synchronised = false;
        assert_eq!(outcome(&subject(), &facts, &SYNCHRONISED), Outcome::Warning);
        let mut alone = subject();
        alone.node.as_mut().unwrap().members.truncate(1);
        assert_eq!(outcome(&alone, &facts, &SYNCHRONISED), Outcome::Ok);
    }

    #[test]
    fn short_slots_make_the_tai_offset_matter() {
        assert_eq!(node().slot_shift, 36);
        assert_eq!(outcome(&subject(), &healthy(), &TAI), Outcome::Ok);
        let mut short = subject();
        short.node.as_mut().unwrap().slot_shift = 35;
        assert_eq!(outcome(&short, &healthy(), &TAI), Outcome::Warning);
    }
}
