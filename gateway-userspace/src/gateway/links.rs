//! The links to the other gateways: who they are and who we are follows the published ring, and the keys follow the
//! secrets.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    config::{Config, ConfigError},
    control::Published,
    peer::{
        View,
        gateways::{Handlers, Links, Wiring},
        key::{Between, LinkKeys},
    },
};

/// The links, and what keeps them on the ring. They end when it is dropped.
#[derive(Debug)]
pub(super) struct GatewayLinks {
    pub(super) links: Links,
    following: JoinHandle<()>,
}

/// What is published, as it changes.
type Publications = watch::Receiver<Option<Arc<Published>>>;

/// Starts the links. At SIGHUP the secrets are read again, and `reload` is called for whatever else stands in files. Must
/// be called within a tokio runtime.
///
/// # Errors
/// If the secrets cannot be read.
pub(super) fn start(
    config: &Config,
    published: Publications,
    handlers: Handlers,
    reload: impl Fn(&Config) + Send + 'static,
) -> Result<GatewayLinks, ConfigError> {
    let keys = watch::Sender::new(Arc::new(LinkKeys::of(&config.secrets()?, Between::Gateways)));
    let view = watch::Sender::new(Arc::new(view_of(&published)));
    let port = config.peers.gateway_port;
    let links = Links::start(Wiring { port, view: view.subscribe(), keys: keys.subscribe(), handlers });
    let following = tokio::spawn(follow(config.clone(), published, view, keys, reload));
    Ok(GatewayLinks { links, following })
}

impl Drop for GatewayLinks {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// Passes on what is published, and at SIGHUP the secrets in their files.
async fn follow(
    config: Config,
    mut published: Publications,
    view: watch::Sender<Arc<View>>,
    keys: watch::Sender<Arc<LinkKeys>>,
    reload: impl Fn(&Config) + Send,
) {
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => Some(hangup),
        Err(error) => {
            tracing::warn!("cannot listen for SIGHUP: {error}; the secrets stay as they are");
            None
        }
    };
    let mut told = async || match &mut hangup {
        Some(hangup) => hangup.recv().await,
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            changed = published.changed() => {
                let new = view_of(&published);
                view.send_if_modified(|view| (**view != new).then(|| *view = Arc::new(new)).is_some());
                if changed.is_err() {
                    return;
                }
            }
            Some(()) = told() => {
                match config.secrets() {
                    Ok(secrets) => {
                        let new = LinkKeys::of(&secrets, Between::Gateways);
                        keys.send_if_modified(|keys| (**keys != new).then(|| *keys = Arc::new(new)).is_some());
                        tracing::info!("the secrets have been read again");
                    }
                    Err(error) => tracing::warn!("the links keep their keys: {error}"),
                }
                reload(&config);
            }
        }
    }
}

/// The fleet as our links need to know it.
fn view_of(published: &Publications) -> View {
    let published = published.borrow();
    published.as_ref().map_or_else(View::default, |published| {
        View::of_gateway(published.address, &published.ring, published.previous.as_ref())
    })
}
