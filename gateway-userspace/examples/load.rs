fn main() {
    let settings = ringsteer::dataplane::Settings {
        pin_dir: "/run/rst/t".into(),
        max_flows: 1024,
        slot_shift: 36,
        object: std::env::args().nth(1).map(Into::into),
    };
    match ringsteer::dataplane::Dataplane::load(&settings) {
        Ok(_) => println!("ok"),
        Err(e) => println!("{e:#}"),
    }
    println!("{:?}", ringsteer::dataplane::attach::uninstall(&settings.pin_dir));
}
