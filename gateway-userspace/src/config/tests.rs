//! What a configuration says, and what is said about a wrong one, to the word.

use std::{fs, net::SocketAddr, time::Duration};

use ringsteer_openim::policy::Policy;

use super::*;
use crate::ring::Epoch;

const SMALLEST: &str = r#"[node]
name = "node-1"
identity = "gw-0.example:88"
interfaces = ["eth0"]

[secrets]
current = "000102030405060708090a0b0c0d0e0f"

[ring]
epoch = 1

[[ring.members]]
number = 1
identity = "gw-0.example:88"
address = "198.51.100.11"

[[ring.members]]
number = 2
identity = "gw-1.example:88"
address = "198.51.100.12"

[[services]]
name = "websocket"
address = "192.0.2.1:10001"
parameter = "sendID"

[[services]]
name = "push"
address = "192.0.2.1:10002"
parameter = "recvID"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, &Overrides::default())
}

/// What is said about [`SMALLEST`] with `from` (which stands there once) changed into `to`.
#[track_caller]
fn complaint(from: &str, to: &str) -> String {
    assert_eq!(SMALLEST.matches(from).count(), 1, "{from:?} must stand in the text once");
    match parse(&SMALLEST.replace(from, to)) {
        Ok(_) => panic!("{from:?} became {to:?}, and nobody complained"),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn refused(from: &str, to: &str, message: &str) {
    assert_eq!(complaint(from, to), message);
}

#[test]
fn the_smallest_file_has_the_defaults() {
    let config = parse(SMALLEST).unwrap();
    let Node {
        name,
        identity,
        address,
        interfaces,
        pin_dir,
        socket,
        tunnel_port,
        max_flows,
        mode,
        xdp_mode,
        flow_idle_s,
        handshake_slot_shift,
    } = config.node.clone();
    assert_eq!((name.as_str(), identity.as_str(), address), ("node-1", "gw-0.example:88", None));
    assert_eq!(interfaces, ["eth0"]);
    assert_eq!(pin_dir, Path::new("/sys/fs/bpf/ringsteer"));
    assert_eq!(socket, Path::new("/run/ringsteer/agent.sock"));
    assert_eq!((tunnel_port, max_flows, xdp_mode), (6080, 1_048_576, XdpMode::Auto));
    assert_eq!(mode, Mode::LateBinding);
    assert_eq!((flow_idle_s, handshake_slot_shift), (8000, 36));
    assert_eq!(config.gateway.max_message_bytes, 51_200);

    assert_eq!(config.membership, Membership::File { path: None });
    assert_eq!((config.peers.port, config.peers.gateway_port), (6081, 6082));
    assert_eq!(config.metrics.agent, Some("127.0.0.1:9600".parse().unwrap()));
    assert_eq!(config.metrics.gateway, Some("127.0.0.1:9601".parse().unwrap()));

    let ring = config.ring().unwrap();
    assert_eq!((ring.epoch(), ring.algorithm().to_string()), (Epoch(1), "openim".to_owned()));
    assert_eq!(ring.members()[1].identity.as_str(), "gw-1.example:88");
    assert_eq!(ring.members()[1].address.to_string(), "198.51.100.12");

    let [websocket, push] = &config.services[..] else { panic!() };
    assert_eq!((websocket.name.as_str(), websocket.serve), ("websocket", Serve::None));
    assert_eq!(websocket.address, "192.0.2.1:10001".parse::<SocketAddr>().unwrap());
    assert_eq!(push.parameter.as_ref().unwrap().as_str(), "recvID");
}

#[test]
fn every_key_is_heard() {
    let text = r#"
        [node]
        name = "Knoten eins, hinten links"
        identity = "gw-0"
        address = "2001:db8::7"
        interfaces = ["eth0", "eth1"]
        pin_dir = "/tmp/pins"
        socket = "/tmp/agent.sock"
        tunnel_port = 6081
        max_flows = 1024
        mode = "late-binding"
        xdp_mode = "generic"
        flow_idle_s = 60
        handshake_slot_shift = 30
        [secrets]
        current = "000102030405060708090a0b0c0d0e0f"
        previous = "FFfefdfcfbfaf9f8f7f6f5f4f3f2f1f0"
        [ring]
        epoch = 12
        algorithm = "openim"
        allow_identities_without_port = true
        members = [{ number = 7, identity = "gw-0", address = "2001:db8::7" }]
        [[services]]
        name = "spread"
        address = "[2001:db8::1]:80"
        [[services]]
        name = "ws"
        address = "[::ffff:192.0.2.1]:80"
        parameter = "sendID"
        serve = "websocket"
        [gateway]
        max_message_bytes = 1000
        sessions = 10
        sessions_per_user = 11
        logins_per_s = 12
        queue_messages = 13
        queue_bytes = 2000
        compression = false
        grace_s = 30
        proxy_protocol_from = ["198.51.100.0/24", "2001:db8::1"]
        [openim]
        token_secret_files = ["/tmp/a", "/tmp/b"]
        token_leeway_s = 0
        login_policy = 4
        msg_service = "http://msg.example:10130"
        msg_token_file = "/tmp/c"
        msg_timeout_ms = 100
        msg_in_flight = 7
        [peers]
        port = 7000
        gateway_port = 7001
        [metrics]
        agent = ""
        gateway = "[::]:9000"
    "#;
    let config = parse(text).unwrap();
    let expected = Node {
        name: "Knoten eins, hinten links".into(),
        identity: Identity::port_optional("gw-0").unwrap(),
        address: Some("2001:db8::7".parse().unwrap()),
        interfaces: vec!["eth0".into(), "eth1".into()],
        pin_dir: "/tmp/pins".into(),
        socket: "/tmp/agent.sock".into(),
        tunnel_port: 6081,
        max_flows: 1024,
        mode: Mode::LateBinding,
        xdp_mode: XdpMode::Generic,
        flow_idle_s: 60,
        handshake_slot_shift: 30,
    };
    assert_eq!(config.node, expected);
    let ring = config.ring().unwrap();
    assert_eq!(ring.epoch(), Epoch(12));
    assert_eq!(ring.members()[0].identity, config.node.identity);
    assert_eq!((config.peers.port, config.peers.gateway_port, config.metrics.agent), (7000, 7001, None));
    assert_eq!(config.metrics.gateway, Some("[::]:9000".parse().unwrap()));
    assert_eq!(config.services[0].parameter, None);
    assert_eq!(config.services[1].address, "192.0.2.1:80".parse::<SocketAddr>().unwrap());
    assert_eq!(config.services[1].serve, Serve::Websocket);
    let Gateway {
        max_message_bytes,
        sessions,
        sessions_per_user,
        logins_per_s,
        queue_messages,
        queue_bytes,
        compression,
        grace_s,
        proxy_protocol_from,
    } = config.gateway.clone();
    let networks: Vec<_> = proxy_protocol_from.iter().map(Network::to_string).collect();
    assert_eq!(networks, ["198.51.100.0/24", "2001:db8::1/128"]);
    assert_eq!((max_message_bytes, sessions, sessions_per_user, logins_per_s), (1000, 10, 11, 12));
    assert_eq!((queue_messages, queue_bytes, compression, grace_s), (13, 2000, false, 30));
    let expected = OpenIm {
        token_secret_files: vec!["/tmp/a".into(), "/tmp/b".into()],
        token_leeway: Duration::ZERO,
        login_policy: Policy::OneAClass,
        msg_service: Some("http://msg.example:10130".into()),
        msg_token_file: Some("/tmp/c".into()),
        msg_timeout: Duration::from_millis(100),
        msg_in_flight: 7,
    };
    assert_eq!(config.openim, Some(expected));
    let secrets = config.secrets().unwrap().to_kernel();
    assert_eq!(secrets.current, [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
    assert_eq!(secrets.previous, [0xf8f9_fafb_fcfd_feff, 0xf0f1_f2f3_f4f5_f6f7]);
}

#[test]
fn the_shape_of_the_file() {
    refused(
        "epoch = 1",
        "epoch = 1\nepok = 2",
        "line 11: unknown field `epok`, expected one of `epoch`, `algorithm`, `allow_identities_without_port`, `members`",
    );
    refused("interfaces = [\"eth0\"]\n", "", "line 1: missing field `interfaces`");
    refused("epoch = 1", "epoch = \"1\"", "line 10: invalid type: string \"1\", expected u64");
    refused(
        "epoch = 1",
        "epoch = 1\nalgorithm = \"ketama\"",
        "line 11: unknown variant `ketama`, expected `openim` or `multiprobe`",
    );
    refused(
        "interfaces",
        "xdp_mode = \"fast\"\ninterfaces",
        "line 4: unknown variant `fast`, expected one of `auto`, `native`, `generic`",
    );
    refused(
        "interfaces",
        "mode = \"late\"\ninterfaces",
        "line 4: unknown variant `late`, expected `late-binding` or `accept`",
    );
    refused("[ring]", "[ring", "line 9: unclosed table, expected `]`");
}

#[test]
fn the_node() {
    let name = "`name` must be 1 to 128 bytes of text on one line";
    refused("\"node-1\"", "\"\"", &format!("line 2: {name}"));
    refused("\"node-1\"", "\"a\\r\\nb\"", &format!("line 2: {name}"));
    refused("\"node-1\"", &format!("\"{}\"", "x".repeat(129)), &format!("line 2: {name}"));
    refused(
        "identity = \"gw-0.example:88\"\ninterfaces",
        "interfaces",
        "the `[node]` table has no `identity`; set it there, or RINGSTEER_NODE_IDENTITY in the environment",
    );
    refused(
        "interfaces",
        "address = \"gw-0\"\ninterfaces",
        "line 4: \"gw-0\" is no IP address; write the node's own address, such as 198.51.100.11, without a port",
    );
    refused(
        "[\"eth0\"]",
        "[]",
        "line 4: `interfaces` is empty; list those on which clients and nodes reach this one, such as [\"eth0\"]",
    );
    refused("[\"eth0\"]", "[\"eth0\",\n\"eth0\"]", "line 5: the interface eth0 is listed twice; remove one");
    for name in ["", "a/b", "sixteen-letters!", "..", "a b", "a:1"] {
        let message = format!("line 4: {name:?} is no interface name; `ip link` lists those there are");
        refused("\"eth0\"", &format!("{name:?}"), &message);
    }
    for (key, value) in [("pin_dir", "pins"), ("socket", "./agent.sock")] {
        let message = format!("line 4: `{key} = {value:?}` must be an absolute path");
        refused("interfaces", &format!("{key} = {value:?}\ninterfaces"), &message);
    }
    refused(
        "interfaces",
        &format!("socket = \"/{}\"\ninterfaces", "x".repeat(103)),
        "line 4: `socket` is 104 bytes long, and the kernel takes 103; choose a shorter path",
    );
}

#[test]
fn numbers_have_limits() {
    for (key, smallest, largest) in [
        ("tunnel_port", 1, 65_535),
        ("max_flows", 1, 1 << 26),
        ("flow_idle_s", 1, i64::from(u32::MAX)),
        ("handshake_slot_shift", 28, 40),
    ] {
        for value in [smallest, largest] {
            parse(&SMALLEST.replace("interfaces", &format!("{key} = {value}\ninterfaces"))).unwrap();
        }
        for value in [smallest - 1, largest + 1, -1, i64::MAX] {
            let message = format!("line 4: `{key} = {value}` is out of range; it goes from {smallest} to {largest}");
            refused("interfaces", &format!("{key} = {value}\ninterfaces"), &message);
        }
    }
    for value in [0, (16 << 20) + 1] {
        let message = format!("line 2: `max_message_bytes = {value}` is out of range; it goes from 1 to 16777216");
        refused("[node]\n", &format!("gateway = {{\nmax_message_bytes = {value} }}\n[node]\n"), &message);
    }
}

#[test]
fn a_trusted_proxy_is_a_network() {
    let error = parse(&format!("{SMALLEST}\n[gateway]\nproxy_protocol_from = [\"198.51.100.7/24\"]\n")).unwrap_err();
    assert!(
        error.to_string().contains("`proxy_protocol_from` has \"198.51.100.7/24\", which is no network"),
        "{error}"
    );
}

#[test]
fn openims_clients_need_a_secret() {
    let served =
        |table: &str| SMALLEST.replace("parameter = \"sendID\"", "parameter = \"sendID\"\nserve = \"openim\"") + table;
    let error = |table: &str| parse(&served(table)).unwrap_err().to_string();
    assert!(error("").starts_with("OpenIM's clients show tokens: set `token_secret_files` in `[openim]`"));
    assert!(error("\n[openim]\nlogin_policy = 1\n").contains("set `token_secret_files` in `[openim]`"));
    let files = "\n[openim]\ntoken_secret_files = [\"/s\"]\n";
    let openim = parse(&served(files)).unwrap().openim.unwrap();
    assert_eq!((openim.login_policy, openim.token_leeway), (Policy::OneAPlatform, Duration::from_secs(5)));
    assert_eq!((openim.msg_service, openim.msg_timeout), (None, Duration::from_secs(5)));
    for (line, expected) in [
        ("login_policy = 2", "`login_policy = 2` must be 0, 1, 4 or 5"),
        ("login_policy = -1", "`login_policy = -1` must be 0, 1, 4 or 5"),
        ("msg_service = \"msg:1\"", "`msg_service = \"msg:1\"` must be a URL such as"),
        ("msg_token_file = \"c\"", "must be an absolute path"),
        ("msg_timeout_ms = 1", "`msg_timeout_ms = 1` is out of range"),
        ("key = 1", "unknown field `key`"),
    ] {
        let error = error(&format!("{files}{line}\n"));
        assert!(error.starts_with("line 3") && error.contains(expected), "{error}");
    }
}

#[test]
fn agents_and_gateways_have_ports_of_their_own() {
    for peers in ["port = 6082", "gateway_port = 6081", "port = 1\ngateway_port = 1"] {
        let error = parse(&format!("{SMALLEST}\n[peers]\n{peers}\n")).unwrap_err().to_string();
        assert!(error.contains("agents and gateways cannot both have port"), "{error}");
    }
}

#[test]
fn the_members() {
    refused(
        "identity = \"gw-1.example:88\"",
        "identity = \"gw-1.example\"",
        "line 19: the identity \"gw-1.example\" has no port: OpenIM's pushers hash `name:port`, so they would compute \
         another ring; append the port (`:88` by default), or set `allow_identities_without_port = true` if no such \
         pusher exists",
    );
    refused("number = 2", "number = 0", "line 18: 0 is no member number; numbers run from 1 to 4095");
    refused(
        "\"198.51.100.12\"",
        "\"gw-1.example\"",
        "line 20: \"gw-1.example\" is no IP address; write the node's own address, such as 198.51.100.11, without a port",
    );
    refused(
        "\"198.51.100.12\"",
        "\"0.0.0.0\"",
        "line 20: 0.0.0.0 is not the address of one host; write the node's own unicast address",
    );
}

#[test]
fn the_ring_as_a_whole() {
    refused(
        "number = 2",
        "number = 1",
        "line 18: members gw-0.example:88 and gw-1.example:88 both have the number 1; give one of them a number that no \
         member has had lately, for flows may still name it",
    );
    refused(
        "gw-1.example:88",
        "gw-0.example:88",
        "line 19: members 1 and 2 both have the identity gw-0.example:88, so one of them would own nothing; correct or \
         remove one",
    );
    refused(
        "198.51.100.12",
        "198.51.100.11",
        "line 20: members 1 and 2 both have the address 198.51.100.11; a node is one member, and the kernel could not \
         tell their packets apart: correct or remove one",
    );
    let members = SMALLEST.find("[[ring.members]]").unwrap()..SMALLEST.find("[[services]]").unwrap();
    let mut without = SMALLEST.to_owned();
    without.replace_range(members.clone(), "");
    assert_eq!(parse(&without).unwrap_err().to_string(), "line 9: the ring has no members; list at least this node");
    let mut crowded = SMALLEST.to_owned();
    let members_text: String = (1..=1639)
        .map(|number: u16| {
            let [high, low] = number.to_be_bytes();
            format!("[[ring.members]]\nnumber = {number}\nidentity = \"gw-{number}:88\"\naddress = \"198.51.{high}.{low}\"\n")
        })
        .collect();
    crowded.replace_range(members, &members_text);
    assert_eq!(
        parse(&crowded).unwrap_err().to_string(),
        "line 9: the ring has 1639 members, and `openim` has room for 1638; remove some"
    );
}

#[test]
fn the_services() {
    refused("\"push\"", "\"websocket\"", "line 28: two services are called \"websocket\"; rename one");
    for name in ["", "a b", "ü", &"x".repeat(65)] {
        let message = format!("line 28: the service name {name:?} must be 1 to 64 letters, digits, `-`, `_` or `.`");
        refused("\"push\"", &format!("{name:?}"), &message);
    }
    refused(
        "\"192.0.2.1:10002\"",
        "\"[::ffff:192.0.2.1]:10001\"",
        "line 29: the services \"websocket\" and \"push\" share the address 192.0.2.1:10001; change one",
    );
    for address in
        ["192.0.2.1", "gw:80", "192.0.2.1:0", "0.0.0.0:80", "224.0.0.1:80", "[fe80::1%2]:80", "255.255.255.255:80"]
    {
        let message = format!(
            "line 29: the service address {address:?} must be a virtual address and a TCP port, such as \
             \"192.0.2.1:10001\" or \"[2001:db8::1]:10001\""
        );
        refused("\"192.0.2.1:10002\"", &format!("{address:?}"), &message);
    }
    for parameter in ["", "a=b", "ü", &"x".repeat(25)] {
        let message = format!(
            "line 30: the parameter {parameter:?} must be 1 to 24 letters, digits, `-`, `_`, `.` or `~`, as it stands in \
             the request line"
        );
        refused("\"recvID\"", &format!("{parameter:?}"), &message);
    }
    refused(
        "parameter = \"recvID\"",
        "serve = \"push\"",
        "line 28: the service \"push\" is served by this gateway, which needs a `parameter` that names the user: \
         `sendID` for websockets, `recvID` for pushes",
    );
    refused(
        "parameter = \"recvID\"",
        "serve = \"coffee\"",
        "line 30: unknown variant `coffee`, expected one of `none`, `openim`, `websocket`, `push`",
    );
    let crowd: String = (2..=256)
        .map(|number| format!("[[services]]\nname = \"s{number}\"\naddress = \"192.0.2.2:{number}\"\n"))
        .collect();
    assert_eq!(
        parse(&(SMALLEST.to_owned() + &crowd)).unwrap_err().to_string(),
        "line 794: there are 257 services, and a node has room for 256; remove some"
    );
}

const CURRENT: &str = "current = \"000102030405060708090a0b0c0d0e0f\"\n";

#[test]
fn a_secret_is_32_hexadecimal_digits() {
    for (secret, found) in [
        ("", "0 characters"),
        ("0001", "4 characters"),
        ("000102030405060708090a0b0c0d0e0f0", "33 characters"),
        ("000102030405060708090a0b0c0d0e0g", "something other than hexadecimal digits"),
        ("+0+1+2+3+4+5+6+7+8+9+a+b+c+d+e+f", "something other than hexadecimal digits"),
    ] {
        let rest = "where a secret has 32 hexadecimal digits (`openssl rand -hex 16` makes one)";
        refused(CURRENT, &format!("current = {secret:?}\n"), &format!("line 7: `current` holds {found} {rest}"));
        let previous = format!("{CURRENT}previous = {secret:?}\n");
        refused(CURRENT, &previous, &format!("line 8: `previous` holds {found} {rest}"));
    }
    refused(
        CURRENT,
        "",
        "line 6: there is no secret; set `current_file` to a file that holds 32 hexadecimal digits, the same on every \
         node (`openssl rand -hex 16` makes them)",
    );
    for key in ["current", "previous"] {
        let both = format!("{CURRENT}{key}_file = \"/x\"\n").replace("current = ", &format!("{key} = "));
        let both = if key == "current" { both } else { format!("{CURRENT}{both}") };
        let line = if key == "current" { 8 } else { 9 };
        refused(CURRENT, &both, &format!("line {line}: `{key}` and `{key}_file` are both set; keep one"));
    }
    refused(CURRENT, "current_file = \"secret\"\n", "line 7: `current_file = \"secret\"` must be an absolute path");
}

#[test]
fn a_secret_can_stand_in_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    let config = parse(&SMALLEST.replace(CURRENT, &format!("current_file = {path:?}\n"))).unwrap();

    let missing = config.secrets().unwrap_err().to_string();
    assert_eq!(
        missing,
        format!(
            "cannot read the secret in {}: No such file or directory (os error 2); create it with 32 hexadecimal digits, \
             readable to this process",
            path.display()
        )
    );
    fs::write(&path, "000102030405060708090a0b0c0d0e0f\n").unwrap();
    assert_eq!(config.secrets().unwrap(), parse(SMALLEST).unwrap().secrets().unwrap());
    // Without a previous one the kernel gets the current one twice.
    let kernel = config.secrets().unwrap().to_kernel();
    assert_eq!(kernel.current, kernel.previous);

    for (content, found) in [("", "0 characters"), (&"0".repeat(1000)[..], "256 characters"), ("é", "2 characters")] {
        fs::write(&path, content).unwrap();
        let place = path.display();
        assert_eq!(
            config.secrets().unwrap_err().to_string(),
            format!(
                "the file {place} holds {found} where a secret has 32 hexadecimal digits (`openssl rand -hex 16` makes one)"
            )
        );
    }
}

#[test]
fn a_secret_is_never_printed() {
    let config = parse(SMALLEST).unwrap();
    let printed = format!("{config:?} {:?}", config.secrets().unwrap());
    assert!(printed.contains("Secret(…)"));
    assert!(!printed.contains("0a0b0c") && !printed.contains("10, 11, 12"), "{printed}");
    let error = complaint("0c0d0e0f", "0c0d0e0");
    assert!(!error.contains("0a0b0c"), "{error}");
}

/// A line that TOML cannot read must not be quoted back: it may hold the secret.
#[test]
fn a_secret_without_quotes_is_not_printed_either() {
    let error = complaint("\"000102030405060708090a0b0c0d0e0f\"", "a00102030405060708090a0b0c0d0e0f");
    assert!(error.starts_with("line 7: ") && !error.contains("0a0b0c"), "{error}");
}

#[test]
fn an_error_names_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ringsteer.toml");
    let complaint = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        Config::load(&path).unwrap_err().to_string()
    };
    let place = path.display();
    assert_eq!(
        Config::load(&path).unwrap_err().to_string(),
        format!(
            "{place}: cannot read the configuration: No such file or directory (os error 2); write one there, or name \
             another file"
        )
    );
    assert_eq!(
        complaint(SMALLEST.replace("number = 2", "number = 0").as_bytes()),
        format!("{place}, line 18: 0 is no member number; numbers run from 1 to 4095")
    );
    assert_eq!(
        complaint(&vec![b'#'; (4 << 20) + 1]),
        format!("{place}: the configuration is larger than 4194304 bytes; is this the right file?")
    );
    assert!(
        complaint(b"\xff")
            .starts_with(&format!("{place}: cannot read the configuration: stream did not contain valid UTF-8"))
    );
    fs::write(&path, SMALLEST).unwrap();
    assert_eq!(Config::load(&path).unwrap().node.name, "node-1");
}

/// [`SMALLEST`] with this `[membership]` in place of its `[ring]`.
fn with_membership(table: &str) -> String {
    let ring = SMALLEST.find("[ring]").unwrap()..SMALLEST.find("[[services]]").unwrap();
    let mut text = SMALLEST.to_owned();
    text.replace_range(ring, &format!("[membership]\n{table}\n"));
    text
}

#[test]
fn membership_by_file() {
    let config = parse(&with_membership("source = \"file\"\npath = \"/etc/ringsteer/ring.toml\"")).unwrap();
    assert_eq!(config.membership, Membership::File { path: Some("/etc/ringsteer/ring.toml".into()) });
    assert!(config.ring().is_none());
    let ring =
        parse_ring("[ring]\nepoch = 3\nmembers = [{ number = 1, identity = \"a:88\", address = \"198.51.100.1\" }]");
    assert_eq!(ring.unwrap().epoch(), Epoch(3));
    let error = parse_ring("[ring]\nepoch = 3\n[node]\n").unwrap_err().to_string();
    assert_eq!(error, "line 3: unknown field `node`, expected `ring`");
}

#[test]
fn membership_by_etcd() {
    let table = "source = \"etcd\"\nendpoints = [\"http://198.51.100.5:2379\"]";
    let config =
        parse(&with_membership(table).replace("interfaces", "address = \"198.51.100.11\"\ninterfaces")).unwrap();
    let Membership::Etcd(etcd) = config.membership else { panic!() };
    assert_eq!((etcd.prefix.as_str(), etcd.lease_ttl_s, etcd.new_ring.grace_s), ("/ringsteer/", 5, 10));
    assert_eq!((etcd.login, etcd.tls, etcd.endpoints.len()), (None, None, 1));
    let error = parse(&with_membership(table)).unwrap_err().to_string();
    assert!(error.starts_with("with etcd each node announces where it is: set `address` in `[node]`"), "{error}");
    for (table, expected) in [
        ("source = \"etcd\"", "line 10: `source = \"etcd\"` needs `endpoints`: the URLs of etcd's members"),
        (
            "source = \"etcd\"\nendpoints = [\"198.51.100.5:2379\"]",
            "line 11: the endpoint \"198.51.100.5:2379\" must be a URL such as \"http://198.51.100.5:2379\" or \
             \"https://etcd.example:2379\"",
        ),
        (
            "source = \"etcd\"\nendpoints = [\"http://a\"]\nprefix = \"x\"",
            "line 12: the prefix \"x\" must begin and end with a slash, such as \"/ringsteer/\"",
        ),
        (
            "source = \"etcd\"\nendpoints = [\"http://a\"]\nusername = \"u\"",
            "line 10: `source = \"etcd\"` needs `password_file`: the file with the password of `username`",
        ),
        (
            "source = \"etcd\"\nendpoints = [\"https://a\"]",
            "line 10: `source = \"etcd\"` needs `ca_file`: whose certificates to trust, for `https`",
        ),
        (
            "source = \"etcd\"\nendpoints = [\"https://a\", \"http://b\"]\nca_file = \"/ca.pem\"",
            "line 11: the endpoint \"http://b\" would be talked to in the clear although there is a `ca_file`; write https, or \
             remove that",
        ),
        (
            "source = \"etcd\"\nendpoints = [\"http://a\"]\nservice = \"u\"",
            "line 12: `service` means nothing with `source = \"etcd\"`; remove it, or choose the source it belongs to",
        ),
    ] {
        assert_eq!(parse(&with_membership(table)).unwrap_err().to_string(), expected);
    }
}

#[test]
fn membership_by_kubernetes() {
    let config = parse(&with_membership("source = \"kubernetes\"\nservice = \"gateways\"")).unwrap();
    let Membership::Kubernetes(kubernetes) = config.membership else { panic!() };
    assert_eq!((kubernetes.port, kubernetes.config_map.as_str()), (88, "ringsteer-ring"));
    assert_eq!((kubernetes.mode, kubernetes.namespace), (KubernetesMode::Endpoints, None));
    for (table, expected) in [
        (
            "source = \"kubernetes\"",
            "line 10: `source = \"kubernetes\"` needs `service`: the service whose endpoints are the members",
        ),
        (
            "source = \"kubernetes\"\nservice = \"g\"\nmode = \"openim-statefulset\"",
            "line 10: `source = \"kubernetes\"` needs `instance`: the name of OpenIM's release, which its pods are named \
             after",
        ),
        (
            "source = \"kubernetes\"\nservice = \"G g\"",
            "line 11: \"G g\" is no name of a Kubernetes object: lower-case letters, digits, `-` and `.`, at most 253 of \
             them",
        ),
    ] {
        assert_eq!(parse(&with_membership(table)).unwrap_err().to_string(), expected);
    }
}

#[test]
fn one_place_for_the_ring() {
    let none = parse(&with_membership("source = \"file\"")).unwrap_err().to_string();
    assert_eq!(none, "there is no ring; list its members in `[ring]`, or say in `[membership]` where they are kept");
    let two = parse(&(SMALLEST.to_owned() + "[membership]\nsource = \"file\"\npath = \"/r.toml\"\n"));
    assert_eq!(
        two.unwrap_err().to_string(),
        "`[ring]` lists members, and `[membership]` names another place for them; keep one, for two rings are one too many"
    );
}

#[test]
fn the_environment_goes_before_the_file() {
    let of = |variables: &[(&str, &str)]| Overrides::of_environment(variables.iter().copied());
    let overrides = of(&[
        ("RINGSTEER_NODE_NAME", "from outside"),
        ("RINGSTEER_NODE_IDENTITY", "gw-1.example:88"),
        ("RINGSTEER_NODE_ADDRESS", "198.51.100.12"),
        ("RINGSTEER_NODE_MAX_FLOWS", "1000"),
        ("RINGSTEER_NODE_INTERFACES", "[\"eth1\", \"eth2\"]"),
        ("RINGSTEER_METRICS_AGENT", "127.0.0.1:7"),
        ("RINGSTEER_NODE_SOCKET", ""),
        // Not for us.
        ("RINGSTEER_CONFIG", "x"),
        ("PATH", "/bin"),
    ]);
    let config = Config::parse(SMALLEST, &overrides).unwrap();
    assert_eq!((config.node.name.as_str(), config.node.identity.as_str()), ("from outside", "gw-1.example:88"));
    assert_eq!(config.node.address.unwrap().to_string(), "198.51.100.12");
    assert_eq!((config.node.max_flows, config.node.interfaces.len()), (1000, 2));
    assert_eq!(config.metrics.agent, Some("127.0.0.1:7".parse().unwrap()));
    assert_eq!(config.node.socket, Path::new(DEFAULT_SOCKET), "an empty variable says nothing");
    assert_eq!(
        overrides.source("node", "max_flows").unwrap().to_string(),
        "the environment's RINGSTEER_NODE_MAX_FLOWS"
    );
    assert_eq!(overrides.source("node", "socket"), None);
    for (variable, value, expected) in [
        (
            "RINGSTEER_NODE_ADDRESS",
            "x",
            "the environment's RINGSTEER_NODE_ADDRESS: \"x\" is no IP address; write the node's own address, such as \
             198.51.100.11, without a port",
        ),
        (
            "RINGSTEER_NODE_MAX_FLOWS",
            "many",
            "the environment's RINGSTEER_NODE_MAX_FLOWS: invalid type: string \"many\", expected i64",
        ),
        (
            "RINGSTEER_PEERS_PORT",
            "0",
            "the environment's RINGSTEER_PEERS_PORT: `port = 0` is out of range; it goes from 1 to 65535",
        ),
    ] {
        assert_eq!(Config::parse(SMALLEST, &of(&[(variable, value)])).unwrap_err().to_string(), expected);
    }
}

#[test]
fn what_looks_like_a_number_can_be_text() {
    let overrides = Overrides::of_environment([("RINGSTEER_NODE_NAME", "17"), ("RINGSTEER_NODE_MAX_FLOWS", "18")]);
    let config = Config::parse(SMALLEST, &overrides).unwrap();
    assert_eq!((config.node.name.as_str(), config.node.max_flows), ("17", 18));
    let secret = [("RINGSTEER_SECRETS_CURRENT", "10111213141516171819202122232425")];
    let other = Config::parse(SMALLEST, &Overrides::of_environment(secret)).unwrap();
    assert_ne!(other.secrets().unwrap(), config.secrets().unwrap());
    let short = [("RINGSTEER_SECRETS_CURRENT", "101112131415161718")];
    let error = Config::parse(SMALLEST, &Overrides::of_environment(short)).unwrap_err().to_string();
    assert!(error.starts_with("the environment's RINGSTEER_SECRETS_CURRENT: `current` holds 18 characters"), "{error}");
    assert!(!error.contains("1011"), "{error}");
}

#[test]
fn a_variable_of_somebody_else_is_not_in_the_way() {
    let overrides =
        Overrides::of_environment([("RINGSTEER_GATEWAY_PORT", "tcp://192.0.2.7:80"), ("RINGSTEER_X_Y", "")]);
    assert!(Config::parse(SMALLEST, &overrides).is_ok());
    assert_eq!(overrides.unknown(), ["RINGSTEER_GATEWAY_PORT"]);
}

#[test]
fn the_places_in_the_file_stay_right() {
    let overrides = Overrides::of_environment([("RINGSTEER_NODE_MAX_FLOWS", "1000")]);
    let text = SMALLEST.replace("number = 2", "number = 0");
    let error = Config::parse(&text, &overrides).unwrap_err();
    assert_eq!(error.line(), Some(18));
}

#[test]
fn settings_are_written_with_table_and_key() {
    let wrong = |text: &str| text.parse::<Setting>().unwrap_err().to_string();
    assert!("node.max_flows=5".parse::<Setting>().is_ok());
    assert!("msg.path = /x=y".parse::<Setting>().is_ok());
    assert_eq!(wrong("max_flows=5"), "write TABLE.KEY=VALUE, such as node.max_flows=100000");
    assert!(wrong("nod.name=x").starts_with("there is no table \"nod\" to set; there are node, secrets, "));
    assert!(wrong("peers.prot=1").starts_with("`[peers]` has no key \"prot\"; it has port"));
}

#[test]
fn the_message_service_needs_its_own_table_only() {
    let alone = |text: &str| super::parse(text, &Overrides::default(), check::msg_alone);
    let (msg, metrics) = alone("").unwrap();
    assert_eq!(msg.listen, "127.0.0.1:10130".parse().unwrap());
    assert_eq!((msg.path.as_path(), msg.fsync), (Path::new(DEFAULT_MSG_PATH), FsyncPolicy::Always));
    assert_eq!((msg.push, msg.max_message_bytes, metrics), (None, 131_072, Some("127.0.0.1:9603".parse().unwrap())));
    let text = format!(
        "{SMALLEST}\n[msg]\nlisten = \"[::1]:7\"\npath = \"/m\"\nfsync = \"interval\"\nfsync_interval_ms = 5\n\
         push = \"http://push.example:10140\"\npush_token_file = \"/t\"\ntoken_file = \"/u\"\nmax_message_bytes = 9\n\
         [metrics]\nmsg = \"\"\n"
    );
    let (msg, metrics) = alone(&text).unwrap();
    assert_eq!(parse(&text).unwrap().msg, msg);
    assert_eq!((msg.fsync, msg.fsync_interval_ms, metrics), (FsyncPolicy::Interval, 5, None));
    assert_eq!(msg.push.as_deref(), Some("http://push.example:10140"));
    for (line, expected) in [
        ("pusch = 1", "unknown field `pusch`"),
        ("push = \"push.example:1\"", "must be a URL such as \"http://127.0.0.1:10140\""),
        ("path = \"m\"", "`path = \"m\"` must be an absolute path"),
        ("fsync = \"never\"", "unknown variant `never`"),
    ] {
        let error = alone(&format!("[msg]\n{line}")).unwrap_err().to_string();
        assert!(error.starts_with("line 2: ") && error.contains(expected), "{error}");
    }
    assert!(alone("[mgs]\n").is_err());
}
