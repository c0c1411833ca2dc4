//! The BPF file system and what is pinned there.

use crate::doctor::{
    facts::{Facts, PinState},
    finding::{Check, Finding},
};

/// The pin directory.
pub const FILE_SYSTEM: Check = Check {
    name: "bpf-file-system",
    why: "Programs and maps are pinned there: that is what keeps them while no agent runs.",
};

/// The pinned maps.
pub const MAPS: Check = Check {
    name: "pinned-maps",
    why: "Agent and programs of different versions must lay the maps out alike, or one would misread the other.",
};

pub(super) fn all(facts: &Facts) -> Vec<Finding> {
    vec![file_system(facts), maps(facts)]
}

/// The file system.
pub fn file_system(facts: &Facts) -> Finding {
    let pins = &facts.pins;
    let place = pins.place.display();
    match &pins.bpf_file_system {
        Err(unknown) => FILE_SYSTEM.unchecked(unknown.0.clone()),
        Ok(false) => FILE_SYSTEM.wrong(
            format!("{place} is not on a BPF file system"),
            "mount -t bpf bpf /sys/fs/bpf (a container needs the host's mounted into it, with mount propagation)",
        ),
        Ok(true) if !pins.writable => {
            FILE_SYSTEM.unchecked(format!("this process may not write to {place}; only its owner's agent has to"))
        }
        Ok(true) => FILE_SYSTEM.ok(place.to_string()),
    }
}

fn maps(facts: &Facts) -> Finding {
    let maps = match &facts.pins.maps {
        Ok(maps) => maps,
        Err(unknown) => return MAPS.unchecked(unknown.0.clone()),
    };
    let named = |state| -> Vec<&str> { maps.iter().filter(|map| map.state == state).map(|map| map.name).collect() };
    let (missing, other) = (named(PinState::Missing), named(PinState::OtherLayout));
    if !other.is_empty() {
        MAPS.wrong(
            format!("laid out as another version lays them out: {}", other.join(", ")),
            "ringsteer uninstall, then start the agent; live steered connections end with it",
        )
    } else if missing.is_empty() {
        MAPS.ok(format!("{} maps, laid out as this version lays them out", maps.len()))
    } else if missing.len() == maps.len() && !facts.steering() {
        MAPS.not_applicable("nothing is pinned; no agent has run here")
    } else {
        MAPS.wrong(format!("not pinned: {}", missing.join(", ")), "restart the agent")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        facts::Unknown,
        finding::Outcome,
        fixtures::{healthy, host},
    };

    #[test]
    fn a_place_that_will_not_do() {
        let mut facts = healthy();
        facts.pins.bpf_file_system = Ok(false);
        assert_eq!(file_system(&facts).outcome, Outcome::Wrong);
        facts.pins.bpf_file_system = Err(Unknown("hidden".into()));
        assert_eq!(file_system(&facts).outcome, Outcome::Unchecked);
        let mut facts = healthy();
        facts.pins.writable = false;
        assert_eq!(file_system(&facts).outcome, Outcome::Unchecked);
    }

    #[test]
    fn maps_missing_foreign_or_not_made_yet() {
        assert_eq!(maps(&healthy()).outcome, Outcome::Ok);
        assert_eq!(maps(&host()).outcome, Outcome::NotApplicable);
        let mut facts = healthy();
        facts.pins.maps.as_mut().unwrap()[2].state = PinState::Missing;
        assert_eq!(maps(&facts).found, "not pinned: nodes");
        facts.pins.maps.as_mut().unwrap()[0].state = PinState::OtherLayout;
        let finding = maps(&facts);
        assert_eq!(finding.outcome, Outcome::Wrong);
        assert!(finding.mend.unwrap().starts_with("ringsteer uninstall"));
    }
}
