//! `ringsteer msg group`: who is in which group.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use ringsteer_openim_rpc::{
    RpcError,
    groups::{
        AddMembersRequest, GetMembersRequest, RemoveMembersRequest, SetMembersRequest, groups_client::GroupsClient,
    },
};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::{
    cli::output::{self, Output},
    config::{self, read_token},
};

/// How long the service may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// See and change who is in a group of the embedded message service
///
/// The service has to run; it is found by `listen` in `[msg]`. Whoever comes into a group sees all that was said there,
/// whoever goes sees what was said until then.
#[derive(Debug, Parser)]
#[command(after_help = output::exit_codes!())]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the members of a group exactly these; with none of them, dissolve it
    Set(Change),
    /// Add members to a group, which need not exist yet
    Add(Change),
    /// Take members away from a group
    Remove(Change),
    /// Print who is in a group
    Show(Of),
}

#[derive(Debug, Parser)]
struct Change {
    #[command(flatten)]
    of: Of,
    /// The users
    #[arg(value_name = "USER")]
    users: Vec<String>,
}

#[derive(Debug, Parser)]
struct Of {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "RINGSTEER_CONFIG", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// How to print the members
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// The group
    #[arg(value_name = "GROUP")]
    group: String,
}

impl Args {
    /// Asks the service, and prints who is in the group then.
    pub(super) async fn run(self) -> Result<()> {
        let (of, users, kind) = match self.command {
            Command::Set(change) => (change.of, change.users, Kind::Set),
            Command::Add(change) => (change.of, some(change.users)?, Kind::Add),
            Command::Remove(change) => (change.of, some(change.users)?, Kind::Remove),
            Command::Show(of) => (of, vec![], Kind::Show),
        };
        let (msg, _) = config::load_msg(&of.config)?;
        let token = msg.token_file.as_deref().map(read_token).transpose()?;
        let mut address = msg.listen;
        if address.ip().is_unspecified() {
            // Listening everywhere includes here.
            address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { [0, 0, 0, 0, 0, 0, 0, 1].into() });
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(TIMEOUT).timeout(TIMEOUT);
        let channel = endpoint.connect().await.with_context(|| {
            format!("the message service at {address} does not answer; is it running? (`ringsteer msg`)")
        })?;
        let members = ask(GroupsClient::new(channel), kind, of.group, users, token.as_deref()).await?;
        output::print(&match of.output {
            Output::Table => members.iter().map(|user| format!("{user}\n")).collect(),
            Output::Json => output::json(&members)?,
        })?;
        Ok(())
    }
}

enum Kind {
    Set,
    Add,
    Remove,
    Show,
}

async fn ask(
    mut client: GroupsClient<Channel>,
    kind: Kind,
    group_id: String,
    user_ids: Vec<String>,
    token: Option<&str>,
) -> Result<BTreeSet<String>> {
    let answer = match kind {
        Kind::Set => client.set_members(with(SetMembersRequest { group_id, user_ids }, token)?).await,
        Kind::Add => client.add_members(with(AddMembersRequest { group_id, user_ids }, token)?).await,
        Kind::Remove => client.remove_members(with(RemoveMembersRequest { group_id, user_ids }, token)?).await,
        Kind::Show => client.get_members(with(GetMembersRequest { group_id }, token)?).await,
    };
    let members = answer.map_err(|status| RpcError::of(&status)).context("the message service refused")?;
    Ok(members.into_inner().user_ids.into_iter().collect())
}

fn with<T>(message: T, token: Option<&str>) -> Result<Request<T>> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    }
    Ok(request)
}

fn some(users: Vec<String>) -> Result<Vec<String>> {
    if users.is_empty() {
        bail!("name the users");
    }
    Ok(users)
}
