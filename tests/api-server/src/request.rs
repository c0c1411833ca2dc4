//! From a request line to what is asked.

use crate::{
    selector::Selector,
    store::{Key, Resource},
};

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Get(Key),
    Create(Resource, String),
    Update(Key),
    Delete(Key),
    List(Resource, String, Selector, Page),
    Watch(Resource, String, Selector, WatchOptions),
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// At most so many objects; 0 for all.
    pub limit: usize,
    /// Where to go on: the revision of the first page, and the last name it had.
    pub after: Option<(u64, String)>,
}

/// How to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// From which revision on; without one, from the state as it is.
    pub after: Option<u64>,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// When to end, in seconds.
    pub timeout_s: Option<u64>,
}

/// Why a request is not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misunderstood {
    /// There is nothing at this path.
    NoSuchPath,
    /// Not with this method.
    NoSuchMethod,
    /// A parameter that is wrong, or means something that is not served here.
    BadParameter(String),
}

impl Request {
    /// What `method` on `path` with `query` asks.
    pub fn parse(method: &str, path: &str, query: &str) -> Result<Self, Misunderstood> {
        let (resource, namespace, name) = place(path).ok_or(Misunderstood::NoSuchPath)?;
        let mut parameters = Parameters::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            parameters.take(key, &decoded(value))?;
        }
        let key = |name| Key { resource, namespace: namespace.clone(), name };
        match (method, name) {
            ("GET", Some(name)) => Ok(Self::Get(key(name))),
            ("PUT", Some(name)) => Ok(Self::Update(key(name))),
            ("DELETE", Some(name)) => Ok(Self::Delete(key(name))),
            ("POST", None) => Ok(Self::Create(resource, namespace)),
            ("GET", None) if parameters.watch => {
                let Parameters { selector, after, bookmarks, timeout_s, .. } = parameters;
                let selector = parse_selector(&selector)?;
                Ok(Self::Watch(resource, namespace, selector, WatchOptions { after, bookmarks, timeout_s }))
            }
            ("GET", None) => {
                // The newest state has any revision that a client can have seen, which is all that it asks with one.
                Ok(Self::List(resource, namespace, parse_selector(&parameters.selector)?, parameters.page))
            }
            _ => Err(Misunderstood::NoSuchMethod),
        }
    }

    /// The verb, the resource and the name that access rules are about.
    pub fn subject(&self) -> (&'static str, Resource, Option<&str>) {
        match self {
            Self::Get(key) => ("get", key.resource, Some(&key.name)),
            Self::Update(key) => ("update", key.resource, Some(&key.name)),
            Self::Delete(key) => ("delete", key.resource, Some(&key.name)),
            Self::Create(resource, _) => ("create", *resource, None),
            Self::List(resource, _, selector, _) => ("list", *resource, selector.name()),
            Self::Watch(resource, _, selector, _) => ("watch", *resource, selector.name()),
        }
    }
}

#[derive(Default)]
struct Parameters {
    watch: bool,
    /// Labels and fields.
    selector: (String, String),
    page: Page,
    after: Option<u64>,
    bookmarks: bool,
    timeout_s: Option<u64>,
}

impl Parameters {
    fn take(&mut self, key: &str, value: &str) -> Result<(), Misunderstood> {
        let bad = || Misunderstood::BadParameter(format!("{key}={value}"));
        let number = || value.parse::<u64>().map_err(|_| bad());
        let truth = || value.parse::<bool>().or_else(|_| if value == "1" { Ok(true) } else { Err(bad()) });
        match key {
            "watch" => self.watch = truth()?,
            "allowWatchBookmarks" => self.bookmarks = truth()?,
            "labelSelector" => self.selector.0 = value.to_owned(),
            "fieldSelector" => self.selector.1 = value.to_owned(),
            "limit" => self.page.limit = number()? as usize,
            "timeoutSeconds" => self.timeout_s = Some(number()?),
            // 0 means any, and so does nothing at all.
            "resourceVersion" => {
                self.after = if value.is_empty() { None } else { Some(number()?).filter(|&it| it > 0) }
            }
            "continue" => {
                let (revision, name) = value.split_once('.').ok_or_else(bad)?;
                self.page.after = Some((revision.parse().map_err(|_| bad())?, name.to_owned()));
            }
            "fieldManager" => {}
            _ => return Err(bad()),
        }
        Ok(())
    }
}

fn parse_selector((labels, fields): &(String, String)) -> Result<Selector, Misunderstood> {
    Selector::parse(labels, fields).map_err(Misunderstood::BadParameter)
}

/// Resource, namespace and name of `/api/v1/namespaces/…` or `/apis/<group>/<version>/namespaces/…`.
fn place(path: &str) -> Option<(Resource, String, Option<String>)> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (api_version, rest) = match parts[..] {
        ["api", version, ref rest @ ..] => (version.to_owned(), rest.to_vec()),
        ["apis", group, version, ref rest @ ..] => (format!("{group}/{version}"), rest.to_vec()),
        _ => return None,
    };
    let (namespace, plural, name) = match rest[..] {
        ["namespaces", namespace, plural] => (namespace, plural, None),
        ["namespaces", namespace, plural, name] => (namespace, plural, Some(name.to_owned())),
        _ => return None,
    };
    let resource = Resource::ALL.into_iter().find(|one| one.api_version() == api_version && one.plural() == plural)?;
    Some((resource, namespace.to_owned(), name))
}

/// Percent-decoding, as in a query.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = tail.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/here/endpointslices";

    #[test]
    fn a_watch_is_understood() {
        let query = "watch=true&timeoutSeconds=25&labelSelector=kubernetes.io%2Fservice-name%3Dmembers\
                     &resourceVersion=1234&allowWatchBookmarks=true";
        let Ok(Request::Watch(Resource::EndpointSlices, namespace, selector, options)) =
            Request::parse("GET", SLICES, query)
        else {
            panic!("not a watch");
        };
        assert_eq!(namespace, "here");
        assert_eq!(Ok(selector), Selector::parse("kubernetes.io/service-name=members", ""));
        assert_eq!(options, WatchOptions { after: Some(1234), bookmarks: true, timeout_s: Some(25) });
    }

    #[test]
    fn an_object_has_its_place() {
        let path = "/api/v1/namespaces/here/configmaps/ring";
        let key = Key { resource: Resource::ConfigMaps, namespace: "here".into(), name: "ring".into() };
        assert_eq!(Request::parse("GET", path, ""), Ok(Request::Get(key.clone())));
        assert_eq!(Request::parse("PUT", path, "&"), Ok(Request::Update(key)));
        assert_eq!(Request::parse("PATCH", path, ""), Err(Misunderstood::NoSuchMethod));
    }

    #[test]
    fn what_is_not_served_is_refused() {
        for path in ["/", "/version", "/api/v1/pods", "/api/v1/namespaces/here/secrets", "/apis/apps/v1/namespaces/x/y"]
        {
            assert_eq!(Request::parse("GET", path, ""), Err(Misunderstood::NoSuchPath), "{path}");
        }
        for query in ["sendInitialEvents=true", "limit=x", "watch=perhaps", "continue=x", "labelSelector=a!=1"] {
            let answer = Request::parse("GET", SLICES, query);
            assert!(matches!(answer, Err(Misunderstood::BadParameter(_))), "{query}: {answer:?}");
        }
    }
}
