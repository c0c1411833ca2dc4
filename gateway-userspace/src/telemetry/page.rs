//! What is answered to which request.

use serde_json::json;

use super::{Figures, Subject};

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Page {
    /// HTTP status.
    pub(super) status: u16,
    /// What kind of text it is.
    pub(super) content_type: &'static str,
    /// The text.
    pub(super) body: String,
}

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The answer to a request. May take a while: the subject may walk a table for its figures.
pub(super) fn page(method: &str, path: &str, subject: &dyn Subject) -> Page {
    let plain = |status, body: &str| Page { status, content_type: PLAIN, body: body.to_owned() };
    if !matches!(method, "GET" | "HEAD") {
        return plain(405, "this is for reading: GET\n");
    }
    match path {
        "/metrics" => match subject.figures() {
            Ok(figures) => Page { status: 200, content_type: METRICS, body: Figures::to_text(&figures) },
            Err(error) => plain(500, &format!("{error:#}\n")),
        },
        // Whoever answers is alive.
        "/healthz" => plain(200, "alive\n"),
        "/readyz" => {
            let reasons = subject.unready();
            let status = if reasons.is_empty() { 200 } else { 503 };
            let body = json!({ "ready": reasons.is_empty(), "reasons": reasons }).to_string() + "\n";
            Page { status, content_type: JSON, body }
        }
        _ => plain(404, "here are /metrics, /healthz and /readyz\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Example(Vec<String>);

    impl Subject for Example {
        fn figures(&self) -> anyhow::Result<Figures> {
            anyhow::ensure!(self.0.is_empty(), "the counters cannot be read");
            Ok(Figures::default())
        }

        fn unready(&self) -> Vec<String> {
            self.0.clone()
        }
    }

    #[test]
    fn each_page_says_what_is_and_why() {
        let (well, unwell) = (Example(vec![]), Example(vec!["there is no ring".into()]));
        let said = |method, path, subject: &Example| {
            let page = page(method, path, subject);
            (page.status, page.body)
        };
        assert_eq!(said("GET", "/metrics", &well), (200, "# EOF\n".into()));
        assert_eq!(said("GET", "/metrics", &unwell), (500, "the counters cannot be read\n".into()));
        assert_eq!(said("HEAD", "/healthz", &unwell), (200, "alive\n".into()));
        assert_eq!(said("GET", "/readyz", &well), (200, "{\"ready\":true,\"reasons\":[]}\n".into()));
        assert_eq!(
            said("GET", "/readyz", &unwell),
            (503, "{\"ready\":false,\"reasons\":[\"there is no ring\"]}\n".into())
        );
        assert_eq!(said("POST", "/metrics", &well).0, 405);
        assert_eq!(said("GET", "/", &well).0, 404);
    }
}
