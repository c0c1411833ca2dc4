//! A look at a role's metrics, as monitoring takes it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::lab::Host;

/// Where an agent serves its metrics unless configured otherwise, on its own host.
pub const AGENT: u16 = 9600;

/// Where a gateway does.
pub const GATEWAY: u16 = 9601;

/// What a page says.
#[derive(Clone, Debug)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// Its text.
    pub body: String,
}

/// The metrics of a role at one moment.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// Values by name and labels, as in the text: `ringsteer_packets_total{verdict="tunnelled"}`.
    pub samples: BTreeMap<String, f64>,
    /// What each name means.
    pub help: BTreeMap<String, String>,
}

/// Asks for a page on the host itself.
pub fn page(host: &Host, port: u16, path: &str) -> Result<Page> {
    let answer = host.block_on(async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    });
    let answer = answer.with_context(|| format!("asking {} for {path} on port {port}", host.name()))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(Page { status: status.with_context(|| format!("no status: {head}"))?, body: body.to_owned() })
}

impl Scrape {
    /// Takes a look.
    ///
    /// # Errors
    /// If the text is not what Prometheus reads.
    pub fn of(host: &Host, port: u16) -> Result<Self> {
        let page = page(host, port, "/metrics")?;
        ensure!(page.status == 200, "{}: {}", page.status, page.body);
        Self::parse(&page.body)
    }

    fn parse(text: &str) -> Result<Self> {
        let (mut samples, mut help, mut types) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut lines = text.lines();
        ensure!(lines.next_back() == Some("# EOF"), "the text does not end as OpenMetrics does");
        for line in lines {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, meaning] => {
                    ensure!(help.insert(name.to_owned(), meaning.to_owned()).is_none(), "{name} is explained twice");
                }
                ["#", "TYPE", name, kind @ ("gauge" | "counter" | "histogram")] => {
                    ensure!(help.contains_key(name), "{name} is not explained");
                    types.insert(name.to_owned(), kind.to_owned());
                }
                _ => {
                    let (name, value) = line.rsplit_once(' ').with_context(|| format!("no sample: {line}"))?;
                    let family = name.split('{').next().unwrap_or(name);
                    let typed = types.get(family).map(String::as_str);
                    let counted =
                        family.strip_suffix("_total").and_then(|family| types.get(family)).map(String::as_str);
                    let spread = ["_sum", "_count", "_bucket"].iter().find_map(|part| family.strip_suffix(part));
                    let spread = spread.and_then(|family| types.get(family)).map(String::as_str);
                    ensure!(
                        typed == Some("gauge") || counted == Some("counter") || spread == Some("histogram"),
                        "a sample of no known type: {line}"
                    );
                    let value = value.parse().with_context(|| format!("no number: {line}"))?;
                    if samples.insert(name.to_owned(), value).is_some() {
                        bail!("twice: {line}");
                    }
                }
            }
        }
        Ok(Self { samples, help })
    }

    /// How many values of a histogram are no larger than each of its bounds, the last one being infinity.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn histogram(&self, name: &str) -> Result<Vec<(f64, u64)>> {
        let prefix = format!("{name}_bucket{{le=\"");
        let bucket = |(name, value): (&String, &f64)| {
            let bound = name.strip_prefix(&prefix)?.strip_suffix("\"}")?;
            Some((if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? }, *value as u64))
        };
        let mut buckets: Vec<_> = self.samples.iter().filter_map(bucket).collect();
        ensure!(!buckets.is_empty(), "there is no histogram {name}");
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        Ok(buckets)
    }

    /// A value.
    ///
    /// # Errors
    /// If there is none of that name and labels.
    pub fn value(&self, name: &str) -> Result<f64> {
        self.samples.get(name).copied().with_context(|| format!("there is no {name} among {:?}", self.samples.keys()))
    }
}
