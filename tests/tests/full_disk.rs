//! The message service on a disk that runs full: whoever sends is answered with an error, the process ends and says why, and
//! when there is room again it is started again and has everything that it acknowledged.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use ringsteer_openim_rpc::{
    Caller, RpcError,
    msg::{SendMsgReq, msg_client::MsgClient},
    sdkws::{MsgData, PullMessageBySeqsReq, SeqRange},
};
use ringsteer_tests::fleet;
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::{Channel, Endpoint};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Bytes on the disk.
const DISK: usize = 24 << 20;

const SENDERS: usize = 8;

/// Bytes of a message.
const CONTENT: usize = 8 << 10;

/// Messages in one answer.
const PULLED_AT_ONCE: i64 = 100;

/// A small disk in a mount namespace of its own, which ends with it.
struct Disk {
    keeper: Child,
    /// While it is open the namespace is there.
    _open: ChildStdin,
    place: tempfile::TempDir,
}

/// The service, in that namespace.
struct Service {
    child: Child,
    client: MsgClient<Channel>,
    said: Option<thread::JoinHandle<String>>,
}

/// What became of a start.
enum Start {
    Runs(Service),
    /// It says so and ends.
    Refuses(String),
}

// === impl Disk ===

impl Disk {
    fn mount() -> Result<Self> {
        const SCRIPT: &str = r#"mount -t tmpfs -o size="$1" small-disk "$0" && echo mounted && exec cat"#;
        let place = tempfile::tempdir()?;
        let mut keeper = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", SCRIPT])
            .arg(place.path())
            .arg(DISK.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let open = keeper.stdin.take().context("a pipe")?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("a pipe")?).read_line(&mut line)?;
        ensure!(line == "mounted\n", "no disk was mounted; that takes root");
        Ok(Self { keeper, _open: open, place })
    }

    /// A file on it, as seen from outside.
    fn file(&self, name: &str) -> PathBuf {
        let inside = self.place.path().strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(inside).join(name)
    }

    /// Leaves no byte free, by a file of that name.
    fn fill(&self, name: &str) -> Result<()> {
        let mut filler = File::create(self.file(name))?;
        for size in [64 << 10, 4 << 10, 1] {
            let part = vec![1; size];
            loop {
                match filler.write_all(&part) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Starts the service with its storage there.
    async fn start(&self) -> Result<Start> {
        let config = self.place.path().join("ringsteer.toml");
        let inside = self.file("ringsteer.toml");
        if !inside.exists() {
            fs::write(&inside, "[metrics]\nmsg = \"\"\n[msg]\nlisten = \"127.0.0.1:0\"\nfsync = \"always\"\n")?;
        }
        let mut child = Command::new("nsenter")
            .arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()))
            .arg(fleet::binary()?)
            .args(["msg", "--config"])
            .arg(config)
            .arg("--set")
            .arg(format!("msg.path={}", self.place.path().join("messages").display()))
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("a pipe")?);
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            if lines.read_line(&mut line)? == 0 {
                child.wait()?;
                return Ok(Start::Refuses(said));
            }
            if let Some((_, address)) = line.trim_end().split_once("for gateways at ") {
                break address.to_owned();
            }
            said += &line;
        };
        let said = thread::spawn(move || {
            let mut said = String::new();
            let _ = lines.read_to_string(&mut said);
            said
        });
        let channel = Endpoint::from_shared(format!("http://{address}"))?.connect().await?;
        Ok(Start::Runs(Service { child, client: MsgClient::new(channel), said: Some(said) }))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

// === impl Start ===

impl Start {
    fn runs(self) -> Result<Service> {
        match self {
            Self::Runs(service) => Ok(service),
            Self::Refuses(said) => bail!("the service does not start: {said}"),
        }
    }
}

// === impl Service ===

impl Service {
    /// Waits until it ends by itself, with this exit code; what it has said.
    fn end(mut self, code: i32) -> Result<String> {
        let status = self.child.wait()?;
        let said = self.said.take().context("once")?.join().expect("it only reads");
        ensure!(status.code() == Some(code), "{status}: {said}");
        Ok(said)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(sender: usize, number: usize) -> MsgData {
    MsgData {
        send_id: format!("user{sender}"),
        recv_id: "hub".into(),
        client_msg_id: format!("m{number}"),
        session_type: 1,
        content_type: 101,
        content: vec![b'a' + (number % 26) as u8; CONTENT].into(),
        ..MsgData::default()
    }
}

/// Whether it was acknowledged; else what was said instead.
async fn send(client: &mut MsgClient<Channel>, message: MsgData) -> Result<Result<String, tonic::Status>> {
    let request = Caller::service("test").request(SendMsgReq { msg_data: Some(message) });
    let answer = timeout(LIMIT, client.send_msg(request)).await.context("no answer")?;
    Ok(answer.map(|answer| answer.into_inner().server_msg_id))
}

/// Sends one message after the other until one is not acknowledged: the names of those that were, and why.
async fn send_on(mut client: MsgClient<Channel>, sender: usize) -> Result<(usize, Vec<String>, tonic::Status)> {
    let mut acknowledged = Vec::new();
    loop {
        match send(&mut client, message(sender, acknowledged.len() + 1)).await? {
            Ok(name) => acknowledged.push(name),
            Err(status) => return Ok((sender, acknowledged, status)),
        }
        ensure!(acknowledged.len() * CONTENT < DISK, "more is acknowledged than there is room for");
    }
}

/// The names of all messages of a sender, which have to be as they were sent.
async fn stored(client: &mut MsgClient<Channel>, sender: usize) -> Result<Vec<String>> {
    let conversation = message(sender, 1).conversation_id().context("a conversation")?;
    let mut names = Vec::new();
    loop {
        let begin = names.len() as i64 + 1;
        let end = begin + PULLED_AT_ONCE - 1;
        let range = SeqRange { conversation_id: conversation.clone(), begin, end, num: PULLED_AT_ONCE };
        let question = PullMessageBySeqsReq { user_id: "hub".into(), seq_ranges: vec![range], order: 0 };
        let asked = client.pull_message_by_seqs(Caller::service("test").request(question));
        let mut answer = timeout(LIMIT, asked).await.context("no answer")??.into_inner();
        let some = answer.msgs.remove(&conversation).unwrap_or_default().msgs;
        if some.is_empty() {
            return Ok(names);
        }
        for one in some {
            let expected = message(sender, names.len() + 1);
            ensure!(one.seq == names.len() as i64 + 1, "{} as number {}", one.seq, names.len() + 1);
            ensure!((&one.client_msg_id, &one.content) == (&expected.client_msg_id, &expected.content), "{one:?}");
            names.push(one.server_msg_id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_loses_nothing_that_was_acknowledged() -> Result<()> {
    let disk = Disk::mount()?;
    let service = disk.start().await?.runs()?;
    let mut client = service.client.clone();
    for sender in 0..SENDERS {
        send(&mut client, message(sender, 1)).await??;
    }

    // Somebody else takes the rest of the disk while everybody sends on.
    let mut sending = JoinSet::new();
    for sender in 0..SENDERS {
        sending.spawn(send_on(service.client.clone(), sender));
    }
    disk.fill("filler")?;
    let mut acknowledged = vec![Vec::new(); SENDERS];
    let mut told = Vec::new();
    for ended in sending.join_all().await {
        let (sender, names, status) = ended?;
        acknowledged[sender] = names;
        told.push(RpcError::of(&status));
    }
    // Who sends when the process is about to end may find nobody there any more.
    ensure!(told.iter().any(|error| error.code == RpcError::INTERNAL), "the senders are told {told:?}");
    let said = service.end(1)?;
    ensure!(said.contains("See whether its disk is full") && said.contains("what was acknowledged is kept"), "{said}");

    // A supervisor starts it again. It may find that it can put its own files in order, and get a little room by that.
    disk.fill("filler of the rest")?;
    match disk.start().await? {
        Start::Refuses(said) => ensure!(said.contains("full"), "{said}"),
        Start::Runs(service) => {
            let (_, names, _) = send_on(service.client.clone(), SENDERS).await?;
            acknowledged.push(names);
            service.end(1)?;
        }
    }

    for name in ["filler", "filler of the rest"] {
        fs::remove_file(disk.file(name))?;
    }
    let service = disk.start().await?.runs()?;
    let mut client = service.client.clone();
    for (sender, acknowledged) in acknowledged.iter().enumerate() {
        let stored = stored(&mut client, sender).await?;
        ensure!(stored.starts_with(acknowledged), "of {acknowledged:?} there are {stored:?}");
        // The one that was answered with an error may be there or not; it is sent again, and then it is.
        ensure!(stored.len() <= acknowledged.len() + 1, "{} messages nobody sent", stored.len());
        let again = send(&mut client, message(sender, acknowledged.len() + 1)).await??;
        ensure!(stored.get(acknowledged.len()).is_none_or(|before| *before == again), "it was stored twice");
        ensure!(self::stored(&mut client, sender).await?.len() == acknowledged.len() + 1, "it is there once");
    }
    Ok(())
}
