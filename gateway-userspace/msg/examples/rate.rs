//! How many messages a second are stored and acknowledged, by fsync policy and number of senders. Over gRPC on loopback;
//! both policies take turns, and medians are printed. Wants a machine with nothing else to do:
//!
//! `cargo run --release --package ringsteer-msg --example rate -- [DIRECTORY]`

use std::{path::Path, sync::Arc, time::Duration};

use ringsteer_msg::{
    book::Limits,
    counters::Counters,
    service::Service,
    store::Store,
    writer::{Fsync, Writer},
};
use ringsteer_openim_rpc::{
    Caller,
    msg::{SendMsgReq, msg_client::MsgClient},
    sdkws::MsgData,
};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tonic::transport::Channel;

const ROUNDS: usize = 5;
const SENDERS: [usize; 3] = [1, 16, 256];
const POLICIES: [(&str, Fsync); 2] =
    [("always", Fsync::Always), ("interval", Fsync::Interval(Duration::from_millis(100)))];

fn message(sender: usize, number: usize, round: usize) -> MsgData {
    MsgData {
        send_id: format!("user-{sender}"),
        recv_id: format!("peer-{sender}"),
        client_msg_id: format!("{round}-{number}"),
        session_type: 1,
        content_type: 101,
        content: vec![b'x'; 200].into(),
        ..MsgData::default()
    }
}

/// Messages a second, and messages per batch.
async fn measure(directory: &Path, fsync: Fsync, senders: usize, round: usize) -> (f64, f64) {
    let store = Store::open(directory).expect("the storage opens");
    let (counters, limits) = (Arc::new(Counters::default()), Limits::default());
    let (writer, thread) = Writer::start(store.clone(), limits, fsync, Arc::clone(&counters), Box::new(drop)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = Service::new(store, writer, limits, None);
    let served = tokio::spawn(service.serve(listener, async { drop(stopped.await) }));
    // Gateways have one connection each; four of them share the senders.
    let mut channels = Vec::new();
    for _ in 0..senders.min(4) {
        channels.push(Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap());
    }
    let each = if senders == 1 { 200 } else { 4000_usize.div_ceil(senders).max(20) };
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for sender in 0..senders {
        let mut client = MsgClient::new(channels[sender % channels.len()].clone());
        tasks.spawn(async move {
            for number in 0..each {
                let message = SendMsgReq { msg_data: Some(message(sender, number, round)) };
                client.send_msg(Caller::service("rate").request(message)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let took = start.elapsed().as_secs_f64();
    drop(channels);
    let _ = stop.send(());
    served.await.unwrap().unwrap();
    tokio::task::spawn_blocking(move || thread.join()).await.unwrap();
    let stored = counters.stored.get() as f64;
    (stored / took, stored / counters.batches.get() as f64)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    println!("{:>8} {:>10} {:>12} {:>10}", "senders", "fsync", "messages/s", "per batch");
    for senders in SENDERS {
        let mut results = [(vec![], vec![]), (vec![], vec![])];
        for round in 0..ROUNDS {
            for ((_, fsync), (rates, batches)) in POLICIES.iter().zip(&mut results) {
                let here = tempfile::tempdir_in(&directory).expect("the directory can be written");
                let (rate, batch) = measure(here.path(), *fsync, senders, round).await;
                rates.push(rate);
                batches.push(batch);
            }
        }
        for ((name, _), (rates, batches)) in POLICIES.iter().zip(results) {
            println!("{senders:>8} {name:>10} {:>12.0} {:>10.1}", median(rates), median(batches));
        }
    }
}
