//! Which objects a list or watch means.

use serde_json::Value;

/// Labels and name that an object must have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `key=value`, all of them.
    labels: Vec<(String, String)>,
    name: Option<String>,
}

impl Selector {
    /// From the parameters `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// If they use more than equality, or another field than the name.
    pub fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let pairs = |text: &str| -> Result<Vec<(String, String)>, String> {
            text.split(',').filter(|part| !part.is_empty()).map(pair).collect()
        };
        let mut name = None;
        for (field, value) in pairs(fields)? {
            if field != "metadata.name" {
                return Err(format!("field label not supported: {field}"));
            }
            name = Some(value);
        }
        Ok(Self { labels: pairs(labels)?, name })
    }

    /// The name, if it selects by name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub fn selects(&self, object: &Value) -> bool {
        let metadata = &object["metadata"];
        self.labels.iter().all(|(key, value)| metadata["labels"].get(key).is_some_and(|found| found == value))
            && self.name.as_ref().is_none_or(|name| metadata["name"] == **name)
    }
}

fn pair(part: &str) -> Result<(String, String), String> {
    let (key, value) = part.split_once('=').ok_or_else(|| format!("only `key=value` is understood, not {part}"))?;
    if key.ends_with('!') || key.contains(' ') {
        return Err(format!("only `key=value` is understood, not {part}"));
    }
    Ok((key.to_owned(), value.trim_start_matches('=').to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_name_must_all_fit() {
        let selector = Selector::parse("a=1,b==2", "metadata.name=x").unwrap();
        let object = |a: &str, name: &str| json!({"metadata": {"name": name, "labels": {"a": a, "b": "2"}}});
        assert!(selector.selects(&object("1", "x")));
        assert!(!selector.selects(&object("2", "x")));
        assert!(!selector.selects(&object("1", "y")));
        assert!(!selector.selects(&json!({"metadata": {"name": "x"}})));
        assert!(Selector::default().selects(&object("2", "y")));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (labels, fields) in [("a!=1", ""), ("a", ""), ("a in (1,2)", ""), ("", "spec.x=1")] {
            assert!(Selector::parse(labels, fields).is_err(), "{labels} {fields}");
        }
    }
}
