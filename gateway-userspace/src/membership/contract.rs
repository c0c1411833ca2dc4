//! What every source promises, as tests: `contract!` makes them for a [`Store`].

use std::time::Duration;

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use super::{Event, Source};
use crate::ring::{MemberState, Ring};

/// How long to wait for what must come. Not a measure of speed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How long to watch for what must not come, at least as long as the source takes to notice something.
const WATCH: Duration = Duration::from_millis(700);

/// A place that keeps members, as the tests handle it. Members that vanish from it have no grace period.
pub(crate) trait Store: Sized {
    /// An empty one, reachable.
    async fn start() -> Self;
    /// A source that follows it, as one node of the fleet has it.
    fn source(&mut self) -> Box<dyn Source>;
    /// The nodes that announce themselves, of those whose sources were asked for: members besides those set.
    fn nodes(&self) -> Vec<String> {
        Vec::new()
    }
    /// Makes these the members, also while it is cut off.
    async fn set_members(&mut self, identities: &[&str]);
    /// Writes something there that is no ring.
    async fn spoil(&mut self);
    /// Takes that back: what was there before stands there again.
    async fn mend(&mut self);
    /// Makes it unreachable.
    async fn cut(&mut self);
    /// Makes it reachable again.
    async fn restore(&mut self);
}

/// One node's source, followed.
pub(crate) struct Following {
    events: mpsc::Receiver<Event>,
    task: JoinHandle<()>,
    state: watch::Sender<MemberState>,
    last: Option<Ring>,
}

impl Following {
    /// Ends without a word, as a process that is killed.
    pub(crate) async fn kill(self) {
        self.task.abort();
        // It has ended when the task says so.
        let _ = self.task.await;
    }

    pub(crate) fn start(source: Box<dyn Source>) -> Self {
        let (sender, state) = watch::channel(MemberState::Active);
        let (told, events) = mpsc::channel(64);
        Self { events, task: tokio::spawn(source.follow(state, told)), state: sender, last: None }
    }

    /// The ring told last.
    pub(crate) fn last(&self) -> Option<&Ring> {
        self.last.as_ref()
    }

    /// Tells the source that this node's state is another one.
    pub(crate) fn set_state(&self, state: MemberState) {
        self.state.send_replace(state);
    }

    /// The next event. Rings must come in order.
    pub(crate) async fn next(&mut self) -> Event {
        let event = timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("the source goes on");
        if let Event::Ring(ring) = &event {
            if let Some(last) = &self.last {
                assert!(ring.epoch() > last.epoch(), "epoch {} came after {}", ring.epoch(), last.epoch());
            }
            self.last = Some(ring.clone());
        }
        event
    }

    /// The first ring from now on that `is_it`; rings before it are passed over, troubles are not.
    pub(crate) async fn ring(&mut self, is_it: impl Fn(&Ring) -> bool) -> Ring {
        loop {
            match self.next().await {
                Event::Ring(ring) if is_it(&ring) => return ring,
                Event::Ring(_) | Event::Well => {}
                Event::Trouble(what) => panic!("in trouble: {what}"),
            }
        }
    }

    /// The first ring with these members, and no others but the nodes of `store`.
    pub(crate) async fn ring_with(&mut self, store: &impl Store, identities: &[&str]) -> Ring {
        let mut wanted = store.nodes();
        wanted.extend(identities.iter().map(|&identity| identity.to_owned()));
        wanted.sort_unstable();
        let is_it = |ring: &Ring| {
            let mut present: Vec<_> = ring.members().iter().map(|member| member.identity.as_str()).collect();
            present.sort_unstable();
            present == wanted
        };
        self.ring(is_it).await
    }

    /// The next trouble; rings before it are passed over.
    pub(crate) async fn trouble(&mut self) -> String {
        loop {
            if let Event::Trouble(what) = self.next().await {
                return what;
            }
        }
    }

    /// Nothing is told for a while.
    pub(crate) async fn silence(&mut self) {
        if let Ok(event) = timeout(WATCH, self.events.recv()).await {
            panic!("{event:?} was told");
        }
    }
}

pub(crate) async fn the_ring_comes_first<S: Store>() {
    let mut store = S::start().await;
    store.set_members(&["a:88", "b:88"]).await;
    let mut following = Following::start(store.source());
    following.ring_with(&store, &["a:88", "b:88"]).await;
    following.silence().await;
}

pub(crate) async fn rings_come_in_order_and_the_newest_is_not_missed<S: Store>() {
    let mut store = S::start().await;
    store.set_members(&["a:88"]).await;
    let mut following = Following::start(store.source());
    following.ring_with(&store, &["a:88"]).await;
    for round in 0..10 {
        let name = format!("round-{round}:88");
        store.set_members(&["a:88", &name]).await;
        if round % 4 == 2 {
            following.ring_with(&store, &["a:88", &name]).await;
        }
    }
    following.ring_with(&store, &["a:88", "round-9:88"]).await;
    following.silence().await;
}

pub(crate) async fn all_nodes_come_to_the_same_ring<S: Store>() {
    let mut store = S::start().await;
    store.set_members(&["a:88", "b:88"]).await;
    let mut nodes = [Following::start(store.source()), Following::start(store.source())];
    for node in &mut nodes {
        node.ring_with(&store, &["a:88", "b:88"]).await;
    }
    store.set_members(&["a:88", "c:88"]).await;
    let mut rings = Vec::new();
    for node in &mut nodes {
        rings.push(node.ring_with(&store, &["a:88", "c:88"]).await);
        node.silence().await;
    }
    assert_eq!((rings[0].epoch(), rings[0].digest()), (rings[1].epoch(), rings[1].digest()));
}

pub(crate) async fn a_broken_ring_changes_nothing<S: Store>() {
    let mut store = S::start().await;
    store.set_members(&["a:88"]).await;
    let mut following = Following::start(store.source());
    let before = following.ring_with(&store, &["a:88"]).await;
    store.spoil().await;
    let trouble = following.trouble().await;
    assert!(trouble.contains("the last ring stays in force"), "{trouble}");
    // Said once.
    following.silence().await;
    store.mend().await;
    match following.next().await {
        Event::Well => assert_eq!(following.last().unwrap().epoch(), before.epoch()),
        Event::Ring(_) => {}
        Event::Trouble(what) => panic!("still in trouble: {what}"),
    }
    store.set_members(&["b:88"]).await;
    following.ring_with(&store, &["b:88"]).await;
}

pub(crate) async fn an_outage_changes_nothing<S: Store>() {
    let mut store = S::start().await;
    store.set_members(&["a:88"]).await;
    let mut following = Following::start(store.source());
    let before = following.ring_with(&store, &["a:88"]).await;
    store.cut().await;
    following.trouble().await;
    assert_eq!(following.last().unwrap().epoch(), before.epoch());
    following.silence().await;
    store.restore().await;
    assert!(matches!(following.next().await, Event::Well | Event::Ring(_)));
    store.set_members(&["a:88", "b:88"]).await;
    following.ring_with(&store, &["a:88", "b:88"]).await;
}

pub(crate) async fn what_changed_in_an_outage_is_told_after_it<S: Store>() {
    let mut store = S::start().await;
    store.set_members(&["a:88"]).await;
    let mut following = Following::start(store.source());
    following.ring_with(&store, &["a:88"]).await;
    store.cut().await;
    following.trouble().await;
    store.set_members(&["a:88", "b:88"]).await;
    store.set_members(&["a:88", "c:88"]).await;
    store.restore().await;
    following.ring_with(&store, &["a:88", "c:88"]).await;
    following.silence().await;
}

pub(crate) async fn one_that_is_not_there_yet_is_waited_for<S: Store>() {
    let mut store = S::start().await;
    store.set_members(&["a:88"]).await;
    store.cut().await;
    let mut following = Following::start(store.source());
    following.trouble().await;
    store.restore().await;
    following.ring_with(&store, &["a:88"]).await;
}

pub(crate) async fn it_ends_when_nobody_listens<S: Store>() {
    let mut store = S::start().await;
    store.set_members(&["a:88"]).await;
    let mut following = Following::start(store.source());
    following.ring_with(&store, &["a:88"]).await;
    let Following { events, task, .. } = following;
    drop(events);
    timeout(PATIENCE, task).await.expect("it ends").expect("without a panic");
}

/// The contract, as tests of a store, in a module of that name.
macro_rules! contract {
    ($module:ident: $store:ident) => {
        $crate::membership::contract::contract! {
            $module: $store:
            the_ring_comes_first,
            rings_come_in_order_and_the_newest_is_not_missed,
            all_nodes_come_to_the_same_ring,
            a_broken_ring_changes_nothing,
            an_outage_changes_nothing,
            what_changed_in_an_outage_is_told_after_it,
            one_that_is_not_there_yet_is_waited_for,
            it_ends_when_nobody_listens,
        }
    };
    ($module:ident: $store:ident: $($test:ident,)*) => {
        mod $module {
            use super::$store;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    $crate::membership::contract::$test::<$store>().await;
                }
            )*
        }
    };
}
pub(crate) use contract;
