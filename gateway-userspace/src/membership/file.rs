//! The ring in a file: the configuration itself, or one that holds nothing else.
//!
//! Changes are heard by inotify on the directories that the path leads through, never on the file: editors and
//! configuration management replace files, and Kubernetes replaces a symbolic link beside them (`..data`) when a
//! mounted ConfigMap changes. What stands there is read whole at each event, and told only if it is a ring with a
//! higher epoch.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::{StreamExt as _, future::BoxFuture};
use inotify::{EventStream, Inotify, WatchMask};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use super::{Event, Source, order::Order};
use crate::{
    config::{self, Config, ConfigError},
    ring::{MemberState, Ring},
};

/// How often to look although nothing was heard: not every file system tells (network file systems do not).
const INTERVAL: Duration = Duration::from_secs(10);

/// Most symbolic links to follow, as in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Follows a file.
#[derive(Debug)]
pub struct FileSource {
    path: PathBuf,
    content: Content,
    /// What was read last, and what it is. Whoever replaces a file makes several changes to its directory, and a ring
    /// of a thousand members takes milliseconds to understand: only a new text is worth them.
    last: Option<(String, Result<Ring, String>)>,
}

/// What the file holds.
#[derive(Clone, Copy, Debug)]
enum Content {
    /// A node's configuration, with its `[ring]`.
    Configuration,
    /// The ring alone.
    Ring,
}

// === impl FileSource ===

impl FileSource {
    /// Follows the `[ring]` of the configuration at `path`.
    pub fn configuration(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), content: Content::Configuration, last: None }
    }

    /// Follows the file at `path`, which holds a ring and nothing else.
    pub fn ring(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), content: Content::Ring, last: None }
    }

    fn read(&mut self) -> Result<Ring, String> {
        let text = config::read(&self.path).map_err(|error| error.to_string())?;
        if let Some((last, ring)) = &self.last
            && *last == text
        {
            return ring.clone();
        }
        let ring = self.understand(&text);
        self.last = Some((text, ring.clone()));
        ring
    }

    fn understand(&self, text: &str) -> Result<Ring, String> {
        let ring: Result<_, ConfigError> = match self.content {
            Content::Ring => config::parse_ring(text).map_err(|error| error.in_file(&self.path)),
            Content::Configuration => match Config::parse_file(&self.path, text) {
                Ok(config) => match config.ring() {
                    Some(ring) => Ok(ring.clone()),
                    None => return Err(format!("{}: there is no `[ring]` any more", self.path.display())),
                },
                Err(error) => Err(error),
            },
        };
        ring.map_err(|error| error.to_string())
    }

    async fn run(mut self, told: mpsc::Sender<Event>) {
        let mut order = Order::default();
        let mut changes = Changes::open();
        loop {
            // Watched first and read then: what changes in between is heard.
            if let Err(error) = changes.watch(&self.path) {
                tracing::debug!("cannot watch {}: {error}; looking every {INTERVAL:?}", self.path.display());
            }
            let event = match self.read() {
                Ok(ring) => order.found(ring, &self.path.display().to_string()),
                Err(error) => order.trouble(format!("{error}; the last ring stays in force")),
            };
            if let Some(event) = event
                && told.send(event).await.is_err()
            {
                return;
            }
            tokio::select! {
                () = changes.next() => {}
                () = sleep(INTERVAL) => {}
                () = told.closed() => return,
            }
        }
    }
}

impl Source for FileSource {
    fn name(&self) -> &'static str {
        "file"
    }

    fn follow(self: Box<Self>, _: watch::Receiver<MemberState>, told: mpsc::Sender<Event>) -> BoxFuture<'static, ()> {
        Box::pin(self.run(told))
    }
}

/// What is heard of the directories.
struct Changes {
    stream: io::Result<EventStream<[u8; 4096]>>,
}

impl Changes {
    fn open() -> Self {
        Self { stream: Inotify::init().and_then(|inotify| inotify.into_event_stream([0; 4096])) }
    }

    /// Watches the directories that `path` leads through. To watch one again changes nothing.
    fn watch(&mut self, path: &Path) -> io::Result<()> {
        let stream = self.stream.as_mut().map_err(|error| io::Error::from(error.kind()))?;
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE
            | WatchMask::MOVE_SELF
            | WatchMask::ATTRIB;
        directories(path).into_iter().try_for_each(|directory| stream.watches().add(directory, mask).map(drop))
    }

    /// Waits until something happened there. What happened does not matter: everything is read anew.
    async fn next(&mut self) {
        match &mut self.stream {
            Ok(stream) => match stream.next().await {
                Some(_) => {}
                None => std::future::pending().await,
            },
            Err(_) => std::future::pending().await,
        }
    }
}

/// The directories in which a name on the way to the file at `path` could change: its own, and for each symbolic link
/// on the way, also among the directories, that of the link.
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut links = 0;
    let mut ways = vec![path.to_owned()];
    while let Some(way) = ways.pop() {
        let Some(parent) = way.parent() else { continue };
        directories.insert(parent.to_owned());
        // Every beginning of the way can be a link.
        for part in way.ancestors() {
            let Ok(target) = fs::read_link(part) else { continue };
            links += 1;
            if links > MAX_LINKS {
                return directories;
            }
            let beside = part.parent().unwrap_or(Path::new("/"));
            directories.insert(beside.to_owned());
            let rest = way.strip_prefix(part).unwrap_or(Path::new(""));
            let resolved = beside.join(target);
            ways.push(if rest.as_os_str().is_empty() { resolved } else { resolved.join(rest) });
            break;
        }
    }
    directories.retain(|directory| directory.is_dir());
    directories
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::symlink};

    use super::*;
    use crate::membership::contract::{Following, Store, contract};

    /// The text of a ring of these members.
    fn text(epoch: u64, identities: &[&str]) -> String {
        let mut text = format!("[ring]\nepoch = {epoch}\n");
        for (number, identity) in (1..).zip(identities) {
            text += &format!(
                "[[ring.members]]\nnumber = {number}\nidentity = \"{identity}\"\naddress = \"198.51.100.{number}\"\n"
            );
        }
        text
    }

    /// What stands before the ring where it is part of a configuration.
    const CONFIGURATION: &str = r#"
[node]
name = "node-1"
identity = "a:88"
interfaces = ["eth0"]
[secrets]
current = "000102030405060708090a0b0c0d0e0f"
"#;

    /// A file that is replaced whole, as configuration management does; `WHOLE` says whether it is a configuration.
    struct Replaced<const WHOLE: bool> {
        directory: tempfile::TempDir,
        epoch: u64,
        good: String,
        cut: bool,
    }

    impl<const WHOLE: bool> Replaced<WHOLE> {
        fn path(&self) -> PathBuf {
            self.directory.path().join("ring.toml")
        }

        fn put(&self, text: &str) {
            let draft = self.directory.path().join("draft");
            let before = if WHOLE { CONFIGURATION } else { "" };
            fs::write(&draft, format!("{before}{text}")).unwrap();
            fs::rename(draft, self.path()).unwrap();
        }
    }

    impl<const WHOLE: bool> Store for Replaced<WHOLE> {
        async fn start() -> Self {
            Self { directory: tempfile::tempdir().unwrap(), epoch: 0, good: String::new(), cut: false }
        }

        fn source(&mut self) -> Box<dyn Source> {
            Box::new(if WHOLE { FileSource::configuration(self.path()) } else { FileSource::ring(self.path()) })
        }

        async fn set_members(&mut self, identities: &[&str]) {
            self.epoch += 1;
            self.good = text(self.epoch, identities);
            if !self.cut {
                self.put(&self.good);
            }
        }

        async fn spoil(&mut self) {
            self.put("[ring]\nepoch = 99\nmembers = [");
        }

        async fn mend(&mut self) {
            self.put(&self.good);
        }

        async fn cut(&mut self) {
            self.cut = true;
            fs::remove_file(self.path()).unwrap();
        }

        async fn restore(&mut self) {
            self.cut = false;
            self.put(&self.good);
        }
    }

    type RingFile = Replaced<false>;
    contract!(ring_file: RingFile);

    type Configuration = Replaced<true>;
    contract!(configuration: Configuration);

    /// A file that is written where it stands, in pieces, is read when the writer is done.
    #[tokio::test]
    async fn a_file_written_in_pieces_is_read_when_it_is_whole() {
        let mut store = RingFile::start().await;
        store.set_members(&["a:88"]).await;
        let mut following = Following::start(store.source());
        following.ring_with(&store, &["a:88"]).await;
        let text = text(2, &["a:88", "b:88"]);
        let (one, other) = text.split_at(text.len() / 2);
        let mut file = fs::File::create(store.path()).unwrap();
        file.write_all(one.as_bytes()).unwrap();
        file.flush().unwrap();
        following.silence().await;
        file.write_all(other.as_bytes()).unwrap();
        drop(file);
        following.ring_with(&store, &["a:88", "b:88"]).await;
    }

    #[tokio::test]
    async fn what_is_wrong_with_an_edit_is_said_in_a_sentence() {
        let mut store = RingFile::start().await;
        store.set_members(&["a:88"]).await;
        let mut following = Following::start(store.source());
        let ring = following.ring_with(&store, &["a:88"]).await;
        let place = store.path().display().to_string();
        store.put(&text(1, &["a"]));
        let trouble = following.trouble().await;
        assert!(
            trouble.starts_with(&format!("{place}, line 5: the identity \"a\" has no port"))
                && trouble.ends_with("; the last ring stays in force"),
            "{trouble}"
        );
        // Another ring of the same epoch.
        store.put(&text(1, &["b:88"]));
        let trouble = following.trouble().await;
        assert!(
            trouble.starts_with(&format!("{place} holds ring ")) && trouble.ends_with("raise `epoch` to 2 or more"),
            "{trouble}"
        );
        store.put(&text(1, &["a:88"]));
        assert!(matches!(following.next().await, Event::Well));
        // The same again, in other words, is nothing to tell.
        store.put(&text(1, &["a:88"]).replace("epoch = 1", "epoch = 1 # as it was"));
        following.silence().await;
        assert_eq!(ring.epoch().0, 1);
    }

    /// A ConfigMap as the kubelet mounts it: the file is a link into `..data`, itself a link to a directory named after
    /// the time, and an update replaces `..data`.
    struct ConfigMap {
        mount: tempfile::TempDir,
        version: u64,
        epoch: u64,
        good: String,
        cut: bool,
    }

    impl ConfigMap {
        fn put(&mut self, text: Option<&str>) {
            self.version += 1;
            let at = |name: &str| self.mount.path().join(name);
            let directory = format!("..2026_11_23_{:04}", self.version);
            fs::create_dir(at(&directory)).unwrap();
            if let Some(text) = text {
                fs::write(at(&directory).join("ring.toml"), text).unwrap();
            }
            let old = fs::read_link(at("..data")).ok();
            symlink(&directory, at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
            if old.is_none() {
                symlink("..data/ring.toml", at("ring.toml")).unwrap();
            }
            if let Some(old) = old {
                fs::remove_dir_all(at(old.to_str().unwrap())).unwrap();
            }
        }
    }

    impl Store for ConfigMap {
        async fn start() -> Self {
            Self { mount: tempfile::tempdir().unwrap(), version: 0, epoch: 0, good: String::new(), cut: false }
        }

        fn source(&mut self) -> Box<dyn Source> {
            Box::new(FileSource::ring(self.mount.path().join("ring.toml")))
        }

        async fn set_members(&mut self, identities: &[&str]) {
            self.epoch += 1;
            self.good = text(self.epoch, identities);
            if !self.cut {
                self.put(Some(&self.good.clone()));
            }
        }

        async fn spoil(&mut self) {
            self.put(Some("[ring]\nepoch = \"soon\"\n"));
        }

        async fn mend(&mut self) {
            self.put(Some(&self.good.clone()));
        }

        async fn cut(&mut self) {
            self.cut = true;
            self.put(None);
        }

        async fn restore(&mut self) {
            self.cut = false;
            self.put(Some(&self.good.clone()));
        }
    }

    contract!(config_map: ConfigMap);

    #[test]
    fn a_plain_file_needs_its_directory() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("ring.toml");
        assert_eq!(directories(&path), [place.path().to_owned()].into());
    }

    #[test]
    fn links_are_followed_as_far_as_they_lead() {
        let place = tempfile::tempdir().unwrap();
        let (first, second) = (place.path().join("first"), place.path().join("second"));
        for directory in [&first, &second] {
            fs::create_dir(directory).unwrap();
        }
        fs::write(second.join("ring.toml"), "").unwrap();
        symlink("../second/ring.toml", first.join("ring.toml")).unwrap();
        let found = directories(&first.join("ring.toml"));
        assert!(found.contains(&first) && found.iter().any(|path| path.canonicalize().unwrap() == second), "{found:?}");
        // A circle ends.
        symlink("b", first.join("a")).unwrap();
        symlink("a", first.join("b")).unwrap();
        assert!(directories(&first.join("a")).contains(&first));
    }
}
