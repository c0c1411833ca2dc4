//! Objects, and the order of what happened to them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A kind of object that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// `v1` ConfigMap.
    ConfigMaps,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlices,
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub resource: Resource,
    pub namespace: String,
    pub name: String,
}

/// What happened to an object, and when.
#[derive(Clone, Debug)]
pub struct Change {
    /// When: its place in the order of all changes.
    pub revision: u64,
    pub key: Key,
    /// The object before, if there was one.
    pub before: Option<Value>,
    /// The object since, unless it was deleted. It has `revision` for its `resourceVersion`.
    pub after: Option<Value>,
}

/// All objects and the history.
#[derive(Debug)]
pub struct Store {
    revision: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<Change>,
    /// Changes up to this revision are forgotten.
    compacted: u64,
    made: u64,
}

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// There is no such object.
    NotFound,
    /// There is one already.
    AlreadyExists,
    /// It has changed since the caller read it.
    Conflict,
    /// The revision asked for is forgotten.
    Gone,
    /// The object is not what the request says it is.
    Invalid(String),
}

// === impl Resource ===

impl Resource {
    /// What is served.
    pub const ALL: [Self; 2] = [Self::ConfigMaps, Self::EndpointSlices];

    /// The API group; empty for the core.
    pub fn group(self) -> &'static str {
        match self {
            Self::ConfigMaps => "",
            Self::EndpointSlices => "discovery.k8s.io",
        }
    }

    /// The name in paths and rules.
    pub fn plural(self) -> &'static str {
        match self {
            Self::ConfigMaps => "configmaps",
            Self::EndpointSlices => "endpointslices",
        }
    }

    /// The name in objects.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ConfigMaps => "ConfigMap",
            Self::EndpointSlices => "EndpointSlice",
        }
    }

    /// Group and version, as objects have them.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::ConfigMaps => "v1",
            Self::EndpointSlices => "discovery.k8s.io/v1",
        }
    }
}

// === impl Store ===

impl Store {
    pub fn new() -> Self {
        // Not 0 or 1: a client must not get away with guessing.
        Self { revision: 1000, objects: BTreeMap::new(), history: Vec::new(), compacted: 0, made: 0 }
    }

    /// The revision of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn get(&self, key: &Key) -> Result<&Value, StoreError> {
        self.objects.get(key).ok_or(StoreError::NotFound)
    }

    /// The objects of a resource in a namespace as they are now, by name.
    pub fn list<'a>(&'a self, resource: Resource, namespace: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let here = move |key: &&Key| key.resource == resource && key.namespace == namespace;
        self.objects.iter().filter(move |(key, _)| here(key)).map(|(key, object)| (key.name.as_str(), object))
    }

    /// The objects as they were at a revision.
    pub fn list_at(
        &self,
        resource: Resource,
        namespace: &str,
        revision: u64,
    ) -> Result<Vec<(String, Value)>, StoreError> {
        if revision < self.compacted {
            return Err(StoreError::Gone);
        }
        let mut objects: BTreeMap<String, Value> =
            self.list(resource, namespace).map(|(name, object)| (name.to_owned(), object.clone())).collect();
        for change in self.history.iter().rev().take_while(|change| change.revision > revision) {
            if change.key.resource == resource && change.key.namespace == namespace {
                match &change.before {
                    Some(before) => objects.insert(change.key.name.clone(), before.clone()),
                    None => objects.remove(&change.key.name),
                };
            }
        }
        Ok(objects.into_iter().collect())
    }

    /// What happened after a revision.
    pub fn since(&self, revision: u64) -> Result<&[Change], StoreError> {
        if revision < self.compacted {
            return Err(StoreError::Gone);
        }
        Ok(&self.history[self.history.partition_point(|change| change.revision <= revision)..])
    }

    /// Forgets all history up to now.
    pub fn compact(&mut self) {
        self.compacted = self.revision;
        self.history.clear();
    }

    pub fn create(&mut self, key: Key, mut object: Value) -> Result<Value, StoreError> {
        check(&key, &object)?;
        if self.objects.contains_key(&key) {
            return Err(StoreError::AlreadyExists);
        }
        self.made += 1;
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012x}", self.made));
        object["metadata"]["creationTimestamp"] = json!("2000-01-01T00:00:00Z");
        Ok(self.record(key, Some(object)))
    }

    /// Replaces an object. Where the new one names a `resourceVersion`, it must be that of the old one.
    pub fn update(&mut self, key: Key, mut object: Value) -> Result<Value, StoreError> {
        check(&key, &object)?;
        let old = self.get(&key)?;
        let (expected, present) = (&object["metadata"]["resourceVersion"], &old["metadata"]["resourceVersion"]);
        if !expected.is_null() && expected != "" && expected != present {
            return Err(StoreError::Conflict);
        }
        // What the server gives stays as it gave it; another `uid` means another object of that name.
        for field in ["uid", "creationTimestamp"] {
            let given = &object["metadata"][field];
            if field == "uid" && !given.is_null() && *given != old["metadata"][field] {
                return Err(StoreError::Conflict);
            }
            object["metadata"][field] = old["metadata"][field].clone();
        }
        object["metadata"]["resourceVersion"] = present.clone();
        if object == *old {
            // As the real one does it: nothing has changed, so nobody is told.
            return Ok(object);
        }
        Ok(self.record(key, Some(object)))
    }

    pub fn delete(&mut self, key: &Key) -> Result<Value, StoreError> {
        let old = self.get(key)?.clone();
        self.record(key.clone(), None);
        Ok(old)
    }

    /// Makes it so, at the next revision.
    fn record(&mut self, key: Key, after: Option<Value>) -> Value {
        self.revision += 1;
        let after = after.map(|mut object| {
            object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
            object
        });
        let before = match &after {
            Some(object) => self.objects.insert(key.clone(), object.clone()),
            None => self.objects.remove(&key),
        };
        let answer = after.clone().unwrap_or_default();
        self.history.push(Change { revision: self.revision, key, before, after });
        answer
    }
}

/// Whether the object is what its place says.
fn check(key: &Key, object: &Value) -> Result<(), StoreError> {
    let wrong = |what: &str, is: &Value, wanted: &str| {
        if is == wanted || (is.is_null() && what != "name") {
            Ok(())
        } else {
            Err(StoreError::Invalid(format!(
                "the {what} of the object ({is}) does not match that of the request ({wanted})"
            )))
        }
    };
    if !object["metadata"].is_object() {
        return Err(StoreError::Invalid("the object has no metadata".into()));
    }
    wrong("kind", &object["kind"], key.resource.kind())?;
    wrong("apiVersion", &object["apiVersion"], key.resource.api_version())?;
    wrong("namespace", &object["metadata"]["namespace"], &key.namespace)?;
    wrong("name", &object["metadata"]["name"], &key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { resource: Resource::ConfigMaps, namespace: "here".into(), name: name.into() }
    }

    fn object(name: &str, data: &str) -> Value {
        json!({"metadata": {"name": name}, "data": {"it": data}})
    }

    #[test]
    fn a_write_on_an_old_version_conflicts() {
        let mut store = Store::new();
        let first = store.create(key("a"), object("a", "1")).unwrap();
        let mut second = first.clone();
        second["data"]["it"] = json!("2");
        let second = store.update(key("a"), second).unwrap();
        let mut late = first;
        late["data"]["it"] = json!("3");
        assert_eq!(store.update(key("a"), late), Err(StoreError::Conflict));
        assert_eq!(store.get(&key("a")), Ok(&second));
        // Without a version it is unconditional.
        assert_eq!(store.update(key("a"), object("a", "4")).unwrap()["data"]["it"], "4");
    }

    #[test]
    fn a_write_that_changes_nothing_is_no_change() {
        let mut store = Store::new();
        let first = store.create(key("a"), object("a", "1")).unwrap();
        let revision = store.revision();
        assert_eq!(store.update(key("a"), first.clone()), Ok(first));
        assert_eq!(store.revision(), revision);
    }

    #[test]
    fn the_past_can_be_listed_until_it_is_compacted() {
        let mut store = Store::new();
        store.create(key("a"), object("a", "1")).unwrap();
        let then = store.revision();
        store.create(key("b"), object("b", "1")).unwrap();
        store.update(key("a"), object("a", "2")).unwrap();
        store.delete(&key("a")).unwrap();
        let past = store.list_at(Resource::ConfigMaps, "here", then).unwrap();
        assert_eq!(past.len(), 1);
        assert_eq!((past[0].0.as_str(), &past[0].1["data"]["it"]), ("a", &json!("1")));
        assert_eq!(store.since(then).unwrap().len(), 3);
        store.compact();
        assert_eq!(store.list_at(Resource::ConfigMaps, "here", then), Err(StoreError::Gone));
        assert!(matches!(store.since(then), Err(StoreError::Gone)));
        assert_eq!(store.since(store.revision()).unwrap().len(), 0);
    }

    #[test]
    fn an_object_is_what_its_place_says() {
        let mut store = Store::new();
        let wrong = [
            json!({"metadata": {"name": "b"}}),
            json!({"metadata": {"name": "a", "namespace": "there"}}),
            json!({"kind": "Secret", "metadata": {"name": "a"}}),
            json!({}),
        ];
        for one in wrong {
            assert!(matches!(store.create(key("a"), one.clone()), Err(StoreError::Invalid(_))), "{one}");
        }
    }
}
