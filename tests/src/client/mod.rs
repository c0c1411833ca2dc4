//! Plain-TCP clients as tests, demo and benchmarks use them: websockets in the shapes of the OpenIM SDKs, and pushes.
//!
//! ```no_run
//! # async fn example(lab: ringsteer_tests::lab::Lab) -> anyhow::Result<()> {
//! use ringsteer_tests::client::{Dial, Login, Opening, Push, Shape, open};
//! use ringsteer_tests::lab::Family;
//!
//! let stream = Dial::new((lab.virtual_address(Family::V4), 10001)).connect().await?;
//! let Opening::Open(mut connection) = open(stream, &[&Login::new("alice").request(Shape::Native)]).await? else {
//!     panic!("refused");
//! };
//! let pusher = Dial::new((lab.virtual_address(Family::V4), 10002)).connect().await?;
//! let answer = Push::text("alice", "hello").send(pusher).await?;
//! println!("{} {}", answer.status, connection.receive().await?);
//! # Ok(()) }
//! ```
//!
//! All of it runs on the host whose thread it is on: hand it to [`Host::spawn`](crate::lab::Host::spawn) or
//! [`Host::block_on`](crate::lab::Host::block_on). Nothing waits longer than [`LIMIT`].

mod answer;
mod batches;
mod chunks;
mod dial;
mod leave;
mod push;
mod shapes;
mod vanish;
mod websocket;

pub use answer::Answer;
pub use batches::{BatchPusher, PushStatus};
pub use chunks::{Pace, write_chunks};
pub use dial::Dial;
pub use leave::leave;
pub use push::Push;
pub use shapes::{Login, Shape};
pub use tokio_tungstenite::tungstenite::Message;
pub use vanish::vanish;
pub use websocket::{Connection, Opening, open, open_paced};

use anyhow::{Context, Result};
use std::future::Future;
use std::time::Duration;

/// How long a single step (a connect, a request, a frame) may take. Not a measure of speed: whoever needs longer hangs.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits for a step, at most [`LIMIT`].
async fn within_limit<T, E: Into<anyhow::Error>>(
    step: impl Future<Output = Result<T, E>>,
    what: impl FnOnce() -> String,
) -> Result<T> {
    match tokio::time::timeout(LIMIT, step).await {
        Ok(outcome) => outcome.map_err(Into::into).with_context(what),
        Err(_) => Err(anyhow::anyhow!("not done within {LIMIT:?}")).with_context(what),
    }
}
