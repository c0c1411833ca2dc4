//! A fleet that serves OpenIM's clients: agents, gateways and the message service, and tokens for users.

use std::{
    fs,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Result, ensure};
use ringsteer::control::Status;

use crate::{
    fleet::{self, Fleet, Options as FleetOptions},
    front,
    lab::{Family, Lab},
};

/// Where gateways take OpenIM's own pushes, each at its node's addresses.
pub const GRPC_PORT: u16 = 10_088;

/// Where the message service is.
pub const MSG_PORT: u16 = 10_130;

/// What tokens are signed with.
pub const TOKEN_SECRET: &str = "only of these tests";

/// The fleet, the message service, and the secret for tokens.
pub struct Scene<'lab> {
    /// Agents and gateways.
    pub fleet: Fleet<'lab>,
    /// Where clients log in: the virtual address.
    pub address: SocketAddr,
    secret_file: PathBuf,
}

impl<'lab> Scene<'lab> {
    /// Starts everything, all in one family, on a lab with a store; waits until clients can log in. Messages are pushed
    /// through the first node.
    ///
    /// # Errors
    /// If something does not start.
    pub fn set(lab: &'lab Lab, family: Family) -> Result<Self> {
        Self::pushed_by(lab, family, (lab.node(0).address(family), GRPC_PORT).into())
    }

    /// The same, with `ringsteer push` between the message service and the gateways.
    ///
    /// # Errors
    /// If something does not start.
    pub fn set_with_front(lab: &'lab Lab, family: Family) -> Result<Self> {
        let scene = Self::pushed_by(lab, family, (lab.pusher().address(family), front::RPC_PORT).into())?;
        front::start(lab, &scene.fleet, family, "")?;
        Ok(scene)
    }

    /// The message service has `pushed_by` push.
    fn pushed_by(lab: &'lab Lab, family: Family, pushed_by: SocketAddr) -> Result<Self> {
        let store = lab.store(0);
        let secret_file = store.run_dir().join("token-secret");
        fs::write(&secret_file, TOKEN_SECRET)?;
        let msg: SocketAddr = (store.address(family), MSG_PORT).into();
        let token_file = store.run_dir().join("push-token");
        fs::write(&token_file, fleet::PUSH_TOKEN)?;
        let configuration = format!(
            r#"[metrics]
msg = ""

[msg]
listen = "{msg}"
path = "{}"
push = "http://{pushed_by}"
push_token_file = "{}"
"#,
            store.run_dir().join("messages").display(),
            token_file.display()
        );
        fs::write(store.run_dir().join("msg.toml"), configuration)?;
        let service = store.spawn_command("msg", fleet::command(store, "msg")?)?;
        service.wait_for_log_line("for gateways", Duration::from_secs(30))?;

        let extra = format!(
            r#"
[openim]
token_secret_files = ["{}"]
# A token that has just expired has expired.
token_leeway_s = 0
msg_service = "http://{msg}"
"#,
            secret_file.display()
        );
        let grpc = Some((Ipv6Addr::UNSPECIFIED, GRPC_PORT).into());
        let fleet = Fleet::start(lab, &FleetOptions { extra, serve: "openim", grpc, ..FleetOptions::all(family) })?;
        let address = fleet.websocket();
        Ok(Self { fleet, address, secret_file })
    }

    /// A user whom a node owns.
    pub fn user_of(&self, node: usize) -> String {
        self.users_of(node).next().expect("every node owns somebody")
    }

    /// The users whom a node owns, as many as are wanted.
    pub fn users_of(&self, node: usize) -> impl Iterator<Item = String> {
        let number = self.fleet.ring.members()[node].number;
        let users = (0..).map(|index| format!("user{index}"));
        users.filter(move |user| self.fleet.ring.owner(user.as_bytes()).number == number)
    }

    /// What tokens are signed with.
    pub fn secret_file(&self) -> &Path {
        &self.secret_file
    }

    /// A token, made as an operator makes one. It differs from those of other lifetimes, as that of a second login does.
    ///
    /// # Errors
    /// If the command fails.
    pub fn token(&self, user: &str, platform: u8, lifetime: &str) -> Result<String> {
        let output = Command::new(fleet::binary()?)
            .args([
                "token",
                "--user",
                user,
                "--platform",
                &platform.to_string(),
                "--expires-in",
                lifetime,
                "--secret-file",
            ])
            .arg(&self.secret_file)
            .output()?;
        ensure!(output.status.success(), "no token: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }

    /// Waits until a node's gateway has that many sessions.
    ///
    /// # Errors
    /// If it never has.
    pub fn wait_for_sessions(&self, node: usize, sessions: u64) -> Result<()> {
        let wanted = |status: &Status| {
            !status.gateways.is_empty() && status.gateways.iter().all(|gateway| gateway.report.sessions == sessions)
        };
        self.fleet.lab.router().block_on(self.fleet.wait_for_status(node, wanted)).map(drop)
    }
}
