//! `ringsteer token` and `ringsteer connect`, as a person or a script uses them, against a server that speaks just enough.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use prost::Message as _;
use ringsteer_openim::{
    error::{ApiError, Code, SUCCESS},
    frame::{Request, Response, Wire, id, text},
    login::Login,
    message::{
        msg::SendMsgResp,
        pushed,
        sdkws::{GetMaxSeqResp, MsgData},
    },
    token::{Keys, Kicked},
};
use ringsteer_websocket::request::parse_head;
use serde_json::Value;
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket, accept_hdr,
    handshake::server::{ErrorResponse, Request as Handshake, Response as Accepted},
};

const SECRET: &str = "a secret of tests";

fn ringsteer(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsteer"));
    command.args(arguments);
    for variable in ["RUST_LOG", "RINGSTEER_TOKEN", "RINGSTEER_TOKEN_SECRET_FILE", "RINGSTEER_CONFIG"] {
        command.env_remove(variable);
    }
    command
}

fn secret_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{SECRET}").unwrap();
    file
}

fn keys() -> Keys {
    Keys::new([SECRET.into()], Duration::ZERO).unwrap()
}

fn now() -> i64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

/// The client, and what it prints, line by line.
struct Client {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    _secret: tempfile::NamedTempFile,
}

impl Client {
    fn start(listener: &TcpListener, arguments: &[&str]) -> Self {
        let secret = secret_file();
        let url = format!("ws://{}/", listener.local_addr().unwrap());
        let secret_path = secret.path().to_str().unwrap();
        let standard =
            ["connect", "--url", &url, "--user", "用户 7", "--platform", "web", "--secret-file", secret_path];
        let mut process = ringsteer(&[&standard, arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, input, output, _secret: secret }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// The exit code and what was said on stderr.
    fn end(mut self) -> (i32, String) {
        drop(self.input.take());
        let status = self.process.wait().unwrap();
        let mut errors = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (status.code().unwrap(), errors)
    }
}

/// The server's side of one client.
struct Server {
    socket: WebSocket<TcpStream>,
    wire: Wire,
}

impl Server {
    /// Takes a client whose login is in order.
    fn accept(listener: &TcpListener) -> Self {
        let mut found = None;
        #[allow(clippy::result_large_err, reason = "tungstenite's type")]
        let callback = |request: &Handshake, response: Accepted| {
            let head = format!("GET {} HTTP/1.1\r\n\r\n", request.uri());
            let (head, _) = parse_head(head.as_bytes()).unwrap().unwrap();
            let login = Login::parse(&head).unwrap();
            let claims = keys().authenticate(&login, &Kicked::default(), now()).unwrap();
            assert_eq!((claims.user.as_str(), claims.platform.number()), ("用户 7", 5));
            found = Some(login);
            Ok::<_, ErrorResponse>(response)
        };
        let mut socket = accept_hdr(listener.accept().unwrap().0, callback).unwrap();
        let login = found.unwrap();
        if login.wants_reply {
            socket.send(Message::text(SUCCESS)).unwrap();
        }
        Self { socket, wire: Wire::from(&login) }
    }

    fn request(&mut self) -> Request {
        match self.socket.read().unwrap() {
            Message::Binary(frame) => self.wire.read(&frame).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn answer(&mut self, request: &Request, data: impl prost::Message) {
        let Request { id, msg_incr, operation_id, .. } = request.clone();
        let data = data.encode_to_vec().into();
        self.send(&Response { id, msg_incr, operation_id, data, ..Response::default() });
    }

    fn send(&mut self, response: &Response) {
        self.socket.send(Message::Binary(self.wire.write(response))).unwrap();
    }

    /// Reads until the client has closed.
    fn see_it_close(mut self) {
        loop {
            match self.socket.read() {
                Ok(_) => {}
                Err(tungstenite::Error::ConnectionClosed) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn listener() -> TcpListener {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
}

#[test]
fn a_token_is_good_where_the_secret_is_known() {
    let secret = secret_file();
    let path = secret.path().to_str().unwrap();
    let arguments = ["token", "--user", "alice", "--platform", "ios", "--expires-in", "1h", "--secret-file", path];
    let output = ringsteer(&arguments).output().unwrap();
    let token = String::from_utf8(output.stdout).unwrap();
    let claims = keys().verify(token.trim_end(), now()).unwrap();
    assert_eq!((claims.user.as_str(), claims.platform.number()), ("alice", 1));
    assert!((3590..=3600).contains(&(claims.expires - now())), "{claims:?}");

    let output = ringsteer(&[&arguments[..], &["-o", "json"]].concat()).output().unwrap();
    let made: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(keys().verify(made["token"].as_str().unwrap(), now()).unwrap().expires, made["expires_s"]);

    let output = ringsteer(&["token", "--user", "alice", "--platform", "ios"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--secret-file"));
}

/// A gateway's configuration names the secret, the environment may say another configuration, or another key, and the flag
/// another secret.
#[test]
fn the_secret_is_the_configured_one_unless_another_is_named() {
    let (secret, other) = (secret_file(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(other.path(), "another secret").unwrap();
    // Without a secret it is one of a gateway that has other clients.
    let config = |secrets: &[&tempfile::NamedTempFile]| {
        let secrets: Vec<_> = secrets.iter().map(|secret| secret.path()).collect();
        let (serve, openim) = match secrets[..] {
            [] => ("websocket", String::new()),
            _ => ("openim", format!("[openim]\ntoken_secret_files = {secrets:?}")),
        };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            r#"
            [node]
            name = "node-1"
            identity = "node-1:88"
            interfaces = ["eth0"]
            [secrets]
            current = "000102030405060708090a0b0c0d0e0f"
            [ring]
            epoch = 1
            members = [{{ number = 1, identity = "node-1:88", address = "192.0.2.11" }}]
            [push]
            insecure_no_auth = true
            [[services]]
            name = "websocket"
            address = "192.0.2.1:10001"
            parameter = "sendID"
            serve = "{serve}"
            {openim}
            "#
        );
        file.write_all(text.as_bytes()).unwrap();
        file
    };
    let path = |file: &tempfile::NamedTempFile| file.path().to_str().unwrap().to_owned();
    let (ours, others) = (config(&[&secret, &other]), config(&[&other]));
    let made = |arguments: &[&str], environment: &[(&str, String)]| {
        let mut command = ringsteer(&["token", "--user", "alice", "--platform", "web"]);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value)));
        let output = command.output().unwrap();
        let token = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        keys().verify(token.trim_end(), now()).map(|claims| claims.user).map_err(|error| (error.code, errors))
    };
    let (config_variable, key) = ("RINGSTEER_CONFIG", "RINGSTEER_OPENIM_TOKEN_SECRET_FILES");
    assert_eq!(made(&["--config", &path(&ours)], &[]).unwrap(), "alice");
    assert_eq!(made(&[], &[(config_variable, path(&ours))]).unwrap(), "alice");
    assert_eq!(made(&["--config", &path(&others)], &[]).unwrap_err().0, Code::TokenUnknown);
    assert_eq!(made(&["--config", &path(&others)], &[(key, format!("[{:?}]", path(&secret)))]).unwrap(), "alice");
    assert_eq!(made(&["--config", &path(&others), "--secret-file", &path(&secret)], &[]).unwrap(), "alice");

    let (_, errors) = made(&["--config", &path(&config(&[]))], &[]).unwrap_err();
    assert!(errors.contains("--secret-file") && errors.contains("serves no OpenIM's clients"), "{errors}");
}

#[test]
fn a_conversation() {
    for format in [&[][..], &["--gzip"], &["--encoding", "json"], &["--encoding", "json", "--gzip"]] {
        let listener = listener();
        let mut client = Client::start(&listener, &[format, &["-o", "json"]].concat());
        let mut server = Server::accept(&listener);
        let connected = client.next();
        assert_eq!((&connected["event"], &connected["user"]), (&"connected".into(), &"用户 7".into()));
        if format.contains(&"json") {
            assert_eq!(client.next()["text"]["errCode"], 0);
        }

        client.say("@bob hello");
        assert_eq!(client.next()["data"]["content"]["content"], "hello");
        let request = server.request();
        let message = MsgData::decode(request.data.clone()).unwrap();
        assert_eq!((request.id, message.recv_id.as_str(), message.send_id.as_str()), (id::SEND, "bob", "用户 7"));
        server.answer(&request, SendMsgResp { server_msg_id: "s1".into(), ..SendMsgResp::default() });
        let answer = client.next();
        assert_eq!((&answer["event"], &answer["data"]["server_msg_id"]), (&"answer".into(), &"s1".into()));

        let reply = MsgData { send_id: "bob".into(), recv_id: "用户 7".into(), seq: 2, ..message };
        let data = Bytes::from(pushed(reply).encode_to_vec());
        server.send(&Response { id: id::PUSH, data, ..Response::default() });
        let push = client.next();
        assert_eq!((&push["event"], &push["data"]["messages"]["si_bob_用户 7"][0]["seq"]), (&"push".into(), &2.into()));

        // The end of input waits for the answer to what was asked.
        client.say("/newest");
        assert_eq!(client.next()["name"], "newest");
        drop(client.input.take());
        let request = server.request();
        server.answer(&request, GetMaxSeqResp { max_seqs: [("si_a".into(), 7)].into(), ..GetMaxSeqResp::default() });
        assert_eq!(client.next()["data"]["newest"]["si_a"], 7);
        server.see_it_close();
        assert_eq!(client.next()["event"], "left");
        assert_eq!(client.end(), (0, String::new()));
    }
}

#[test]
fn a_kick_is_shown_and_told_by_the_exit_code() {
    let listener = listener();
    let mut client = Client::start(&listener, &["--stay"]);
    let mut server = Server::accept(&listener);
    server.send(&ringsteer_openim::dispatch::kicked());
    drop(server);
    let mut lines = String::new();
    for _ in 0..3 {
        client.output.read_line(&mut lines).unwrap();
    }
    assert!(lines.contains("← 2002 kicked: another login has ended this one"), "{lines}");
    assert_eq!(client.end(), (3, String::new()));
}

#[test]
fn pings_in_text_are_answered() {
    let listener = listener();
    let client = Client::start(&listener, &["--encoding", "json", "--stay"]);
    let mut server = Server::accept(&listener);
    server.socket.send(Message::text(text::ping("x"))).unwrap();
    assert_eq!(server.socket.read().unwrap(), Message::text(r#"{"type":"pong","body":"x"}"#));
    server.socket.close(None).unwrap();
    server.see_it_close();
    assert_eq!(client.end().0, 3);
}

#[test]
fn logging_out_is_an_end_that_was_wanted() {
    let listener = listener();
    let mut client = Client::start(&listener, &["-o", "json"]);
    let mut server = Server::accept(&listener);
    client.say("/logout");
    let request = server.request();
    assert_eq!(request.id, id::LOGOUT);
    server.answer(&request, SendMsgResp::default());
    server.socket.close(None).unwrap();
    server.see_it_close();
    assert_eq!(client.end(), (0, String::new()));
}

#[test]
fn ctrl_c_says_close() {
    let listener = listener();
    let mut client = Client::start(&listener, &["--stay"]);
    let mut server = Server::accept(&listener);
    // It reads its input only when it listens for signals.
    client.say("/newest");
    assert_eq!(server.request().id, id::NEWEST_SEQS);
    kill(Pid::from_raw(client.process.id() as i32), Signal::SIGINT).unwrap();
    server.see_it_close();
    assert_eq!(client.end(), (0, String::new()));
}

#[test]
fn a_refusal_says_why() {
    let listener = listener();
    let client = Client::start(&listener, &[]);
    let mut socket = listener.accept().unwrap().0;
    let mut request = [0; 4096];
    let length = socket.read(&mut request).unwrap();
    assert!(request[..length].ends_with(b"\r\n\r\n"));
    let why = ApiError::new(Code::TokenExpired, "the token has expired").to_json();
    write!(socket, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{why}", why.len()).unwrap();
    drop(socket);
    let (code, errors) = client.end();
    assert_eq!(code, 1);
    assert!(errors.contains("TokenExpiredError (1501): the token has expired"), "{errors}");
}
