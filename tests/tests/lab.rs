//! The lab itself: hosts reach each other, labs do not meet, nothing is left behind.

use anyhow::{Result, ensure};
use ringsteer_tests::lab::Lab;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Starts a server on a node that answers each byte with the node's number, until the client closes.
async fn who_are_you(lab: &Lab, node: usize, port: u16) -> Result<()> {
    let address = SocketAddr::from((lab.virtual_address(), port));
    let (listening, wait) = tokio::sync::oneshot::channel();
    lab.node(node).spawn(async move {
        let listener = TcpListener::bind(address).await.expect("the virtual address is on lo of every node");
        let _ = listening.send(());
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                while stream.read_u8().await.is_ok() {
                    if stream.write_u8(node as u8).await.is_err() {
                        break;
                    }
                }
            });
        }
    })?;
    wait.await?;
    Ok(())
}

/// Connects to the virtual address and asks who is there.
async fn ask(address: SocketAddr) -> Result<u8> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_u8(0).await?;
    Ok(stream.read_u8().await?)
}

#[test]
fn clients_and_pusher_reach_the_node_that_the_virtual_address_is_routed_to() -> Result<()> {
    let lab = Lab::builder().nodes(3).clients(2).build()?;
    let address = SocketAddr::from((lab.virtual_address(), 10001));
    lab.router().block_on(async {
        for node in 0..3 {
            who_are_you(&lab, node, address.port()).await?;
        }
        anyhow::Ok(())
    })?;
    for node in [0, 2, 1] {
        lab.route_virtual_to(node)?;
        for host in [lab.client(0), lab.client(1), lab.pusher()] {
            let answer = host.block_on(ask(address))?;
            ensure!(usize::from(answer) == node, "{} reached node {answer}, not {node}", host.name());
        }
    }
    Ok(())
}
