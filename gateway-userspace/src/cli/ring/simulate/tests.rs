use super::*;
use crate::ring::fixtures;

fn args(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(["simulate"].into_iter().chain(line.split_whitespace()))
}

#[test]
fn changes_are_made_in_the_order_that_help_tells() {
    let args =
        args("--add gw-9:88@203.0.113.9 --algorithm multiprobe --drain gw-1 --add gw-8:88 --remove gw-0:88").unwrap();
    assert_eq!(
        args.changes(Origin::File).unwrap(),
        [
            Change::Remove("gw-0:88".into()),
            Change::Drain("gw-1".into()),
            Change::Add { identity: "gw-9:88".parse().unwrap(), address: Some("203.0.113.9".parse().unwrap()) },
            Change::Add { identity: "gw-8:88".parse().unwrap(), address: None },
            Change::Algorithm(Algorithm::Multiprobe),
        ]
    );
}

#[test]
fn something_must_change() {
    assert_eq!(args("").unwrap_err().exit_code(), 2);
    assert_eq!(args("--add gw-9:88@nowhere").unwrap_err().exit_code(), 2);
}

#[test]
fn a_bare_name_is_added_to_bare_names_only() {
    let args = args("--add gw-9").unwrap();
    assert!(args.changes(Origin::File).unwrap_err().to_string().contains("has no port"));
    assert_eq!(args.changes(Origin::Hosts).unwrap().len(), 1);
}

#[test]
fn people_see_what_would_move() {
    let ring = fixtures::ring_of(&["gw-0:88", "gw-1:88", "gw-2:88"]);
    let changes = args("--remove gw-1 --drain gw-2 --add gw-3:88").unwrap().changes(Origin::File).unwrap();
    let forecast = Forecast::of(&ring, &changes, NonZeroU64::new(1000)).unwrap();
    let given = Given { ring, origin: Origin::Hosts, name: "hosts".into() };
    let text = forecast.text(&given, 0);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "ring        hosts: a list of 3 hosts");
    assert!(lines[1].starts_with("moved       ") && lines[1].ends_with(" of them (exact)"), "{text}");
    assert_eq!(lines[4], "member   then      before   after  points");
    let words: Vec<Vec<_>> = lines[5..].iter().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(words, [["gw-0:88", "active"], ["gw-1:88", "removed"], ["gw-2:88", "draining"], ["gw-3:88", "active"]]);
    let json = serde_json::to_value(&forecast).unwrap();
    assert_eq!(json["members"][1]["after"], serde_json::Value::Null);
    assert_eq!(json["members"][2]["after"]["state"], "draining");
    assert_eq!(json["members"][3]["before"], serde_json::Value::Null);
}
