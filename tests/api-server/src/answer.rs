//! What is answered, as JSON.

use serde_json::{Value, json};

use crate::{
    request::Page,
    selector::Selector,
    store::{Change, Key, Resource, Store, StoreError},
};

/// A `Status`, as the API reports what went wrong.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}

/// Code and status of what the store refused.
pub fn refusal(error: &StoreError, key: &Key) -> (u16, Value) {
    let what = format!("{} {:?}", key.resource.plural(), key.name);
    let (code, reason, message) = match error {
        StoreError::NotFound => (404, "NotFound", format!("{what} not found")),
        StoreError::AlreadyExists => (409, "AlreadyExists", format!("{what} already exists")),
        StoreError::Conflict => (
            409,
            "Conflict",
            format!(
                "Operation cannot be fulfilled on {what}: the object has been modified; please apply your changes to \
                 the latest version and try again"
            ),
        ),
        StoreError::Gone => (410, "Expired", "The resourceVersion for the provided request is too old.".to_owned()),
        StoreError::Invalid(why) => (422, "Invalid", format!("{what} is invalid: {why}")),
    };
    (code, status(code, reason, &message))
}

/// An object as it is handed out.
pub fn object(resource: Resource, namespace: &str, stored: &Value) -> Value {
    let mut object = stored.clone();
    object["kind"] = json!(resource.kind());
    object["apiVersion"] = json!(resource.api_version());
    object["metadata"]["namespace"] = json!(namespace);
    object
}

/// A page of a list.
pub fn list(
    store: &Store,
    resource: Resource,
    namespace: &str,
    selector: &Selector,
    page: &Page,
) -> Result<Value, StoreError> {
    let (revision, after) = match &page.after {
        Some((revision, name)) => (*revision, name.as_str()),
        None => (store.revision(), ""),
    };
    let objects = store.list_at(resource, namespace, revision)?;
    let mut meant = objects.iter().filter(|(name, object)| name.as_str() > after && selector.selects(object));
    let limit = if page.limit == 0 { usize::MAX } else { page.limit };
    let items: Vec<&(String, Value)> = meant.by_ref().take(limit).collect();
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if let (Some((name, _)), more @ 1..) = (items.last(), meant.count()) {
        metadata["continue"] = json!(format!("{revision}.{name}"));
        metadata["remainingItemCount"] = json!(more);
    }
    // Items of a list do not repeat what the list says.
    let items: Vec<Value> = items
        .into_iter()
        .map(|(_, stored)| {
            let mut item = object(resource, namespace, stored);
            item.as_object_mut().map(|fields| (fields.remove("kind"), fields.remove("apiVersion")));
            item
        })
        .collect();
    Ok(json!({
        "kind": format!("{}List", resource.kind()),
        "apiVersion": resource.api_version(),
        "metadata": metadata,
        "items": items,
    }))
}

/// What a watcher is told of a change, if it is any of its business: an object that comes to be selected appears to it,
/// one that ceases to be disappears.
pub fn event(change: &Change, resource: Resource, namespace: &str, selector: &Selector) -> Option<Value> {
    if change.key.resource != resource || change.key.namespace != namespace {
        return None;
    }
    let before = change.before.as_ref().filter(|object| selector.selects(object));
    let after = change.after.as_ref().filter(|object| selector.selects(object));
    let (kind, shown) = match (before, after) {
        (None, Some(after)) => ("ADDED", after.clone()),
        (Some(_), Some(after)) => ("MODIFIED", after.clone()),
        (Some(before), None) => {
            // The state before, at the time of the change.
            let mut last = before.clone();
            last["metadata"]["resourceVersion"] = json!(change.revision.to_string());
            ("DELETED", last)
        }
        (None, None) => return None,
    };
    Some(json!({"type": kind, "object": object(resource, namespace, &shown)}))
}

/// An event for an object that was there when the watch began.
pub fn present(resource: Resource, namespace: &str, stored: &Value) -> Value {
    json!({"type": "ADDED", "object": object(resource, namespace, stored)})
}

/// How far a watcher has come although nothing was told to it.
pub fn bookmark(resource: Resource, revision: u64) -> Value {
    json!({
        "type": "BOOKMARK",
        "object": {
            "kind": resource.kind(),
            "apiVersion": resource.api_version(),
            "metadata": {"resourceVersion": revision.to_string(), "creationTimestamp": null},
        },
    })
}

/// The end of a watch whose past is forgotten.
pub fn gone() -> Value {
    json!({"type": "ERROR", "object": status(410, "Expired", "too old resource version")})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(names: &[&str]) -> Store {
        let mut store = Store::new();
        for name in names {
            let key = Key { resource: Resource::ConfigMaps, namespace: "here".into(), name: (*name).into() };
            store.create(key, json!({"metadata": {"name": name, "labels": {"of": "us"}}})).unwrap();
        }
        store
    }

    fn names(list: &Value) -> Vec<&str> {
        list["items"].as_array().unwrap().iter().map(|one| one["metadata"]["name"].as_str().unwrap()).collect()
    }

    #[test]
    fn pages_are_of_one_revision() {
        let mut store = store(&["a", "b", "c"]);
        let all = |page| Page { limit: 2, after: page };
        let selector = Selector::default();
        let first = list(&store, Resource::ConfigMaps, "here", &selector, &all(None)).unwrap();
        assert_eq!(names(&first), ["a", "b"]);
        let (revision, last) = first["metadata"]["continue"].as_str().unwrap().split_once('.').unwrap();
        let next = all(Some((revision.parse().unwrap(), last.to_owned())));
        let key = Key { resource: Resource::ConfigMaps, namespace: "here".into(), name: "d".into() };
        store.create(key, json!({"metadata": {"name": "d"}})).unwrap();
        let second = list(&store, Resource::ConfigMaps, "here", &selector, &next).unwrap();
        assert_eq!(names(&second), ["c"]);
        assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
        assert!(second["metadata"]["continue"].is_null());
        store.compact();
        assert_eq!(list(&store, Resource::ConfigMaps, "here", &selector, &next), Err(StoreError::Gone));
    }

    #[test]
    fn an_object_that_is_no_longer_selected_disappears() {
        let mut store = store(&["a"]);
        let selector = Selector::parse("of=us", "").unwrap();
        let key = Key { resource: Resource::ConfigMaps, namespace: "here".into(), name: "a".into() };
        let before = store.revision();
        store.update(key.clone(), json!({"metadata": {"name": "a", "labels": {"of": "them"}}})).unwrap();
        store.update(key, json!({"metadata": {"name": "a", "labels": {"of": "us"}}})).unwrap();
        let kinds: Vec<_> = store
            .since(before)
            .unwrap()
            .iter()
            .filter_map(|change| event(change, Resource::ConfigMaps, "here", &selector))
            .map(|event| {
                (event["type"].as_str().unwrap().to_owned(), event["object"]["metadata"]["labels"]["of"].clone())
            })
            .collect();
        assert_eq!(kinds, [("DELETED".to_owned(), json!("us")), ("ADDED".to_owned(), json!("us"))]);
    }
}
