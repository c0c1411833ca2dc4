//! The Autobahn test suite against a gateway: the codec passes it, and nothing around the codec may spoil that.

#[path = "../../websocket/tests/autobahn/suite.rs"]
mod suite;

use super::Node;

async fn run(sections: &'static [(&'static str, usize)]) {
    // Its largest messages have a quarter of a megabyte.
    let node = Node::start_with(|limits| limits.max_message = 1 << 20).await;
    let url = format!("ws://{}/?sendID={}", node.clients, node.our_user());
    tokio::task::spawn_blocking(move || suite::run(sections, &url)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_passes_strictly() {
    run(&suite::CASES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_of_compression_passes() {
    run(&suite::COMPRESSION).await;
}
