//! Who may do what, by rules as a Role has them.

use serde_json::Value;

use crate::store::Resource;

/// The rules of a Role. Everything that none of them allows is forbidden.
#[derive(Clone, Debug)]
pub struct Rules(Value);

impl Rules {
    /// From the `rules` of a Role.
    pub fn new(rules: Value) -> Self {
        Self(rules)
    }

    /// Whether `verb` is allowed. `name` is that of the object: for a list or watch the one that the field selector
    /// names, as the real server has it (`RequestInfo`).
    pub fn allow(&self, verb: &str, resource: Resource, name: Option<&str>) -> bool {
        let has = |rule: &Value, key: &str, wanted: &str| {
            rule[key].as_array().is_some_and(|list| list.iter().any(|one| one == wanted || one == "*"))
        };
        self.0.as_array().into_iter().flatten().any(|rule| {
            has(rule, "apiGroups", resource.group())
                && has(rule, "resources", resource.plural())
                && has(rule, "verbs", verb)
                && rule["resourceNames"].as_array().is_none_or(|names| {
                    names.is_empty() || name.is_some_and(|name| names.iter().any(|one| one == name))
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_with_names_is_about_these_alone() {
        let rules = Rules::new(json!([
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["ring"], "verbs": ["get", "list"]},
        ]));
        assert!(rules.allow("list", Resource::EndpointSlices, None));
        assert!(!rules.allow("watch", Resource::EndpointSlices, None));
        assert!(rules.allow("get", Resource::ConfigMaps, Some("ring")));
        assert!(rules.allow("list", Resource::ConfigMaps, Some("ring")));
        assert!(!rules.allow("list", Resource::ConfigMaps, None));
        assert!(!rules.allow("get", Resource::ConfigMaps, Some("other")));
    }
}
