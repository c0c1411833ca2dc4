//! The `[membership]` table: only keys of the chosen source, and all it needs.

use std::{ops::Range, path::PathBuf};

use ringsteer_ebpf::layout::node::MAX_NODES;
use toml::Spanned;

use super::{Checked, Located, absolute, located, number};
use crate::config::{
    Problem,
    file::{self, Source},
    membership::{Etcd, Kubernetes, KubernetesMode, Login, Membership, NewRing, Tls},
};

/// Where the ring comes from, and whether identities may lack a port as far as this table knows.
pub(super) fn check(table: Spanned<file::Membership>) -> Checked<(Membership, bool)> {
    let file = table.into_inner();
    only_of(&file)?;
    match *file.source.get_ref() {
        // The ring file itself says whether names may be bare.
        Source::File => Ok((Membership::File { path: absolute("path", file.path)? }, true)),
        Source::Etcd => etcd(file).map(|etcd| {
            let bare_names = etcd.new_ring.allow_identities_without_port;
            (Membership::Etcd(etcd), bare_names)
        }),
        Source::Kubernetes => kubernetes(file).map(|kubernetes| {
            let bare_names = kubernetes.new_ring.allow_identities_without_port;
            (Membership::Kubernetes(kubernetes), bare_names)
        }),
    }
}

fn name(source: Source) -> &'static str {
    match source {
        Source::File => "file",
        Source::Etcd => "etcd",
        Source::Kubernetes => "kubernetes",
    }
}

/// Refuses keys of another source: whoever wrote them expects something that will not happen.
fn only_of(file: &file::Membership) -> Checked<()> {
    type Span = Option<Range<usize>>;
    fn span<T>(value: &Option<Spanned<T>>) -> Span {
        value.as_ref().map(Spanned::span)
    }
    use Source::{Etcd, File, Kubernetes};
    let keys: [(&'static str, Span, &[Source]); 19] = [
        ("path", span(&file.path), &[File]),
        ("endpoints", span(&file.endpoints), &[Etcd]),
        ("prefix", span(&file.prefix), &[Etcd]),
        ("lease_ttl_s", span(&file.lease_ttl_s), &[Etcd]),
        ("username", span(&file.username), &[Etcd]),
        ("password_file", span(&file.password_file), &[Etcd]),
        ("ca_file", span(&file.ca_file), &[Etcd]),
        ("cert_file", span(&file.cert_file), &[Etcd]),
        ("key_file", span(&file.key_file), &[Etcd]),
        ("namespace", span(&file.namespace), &[Kubernetes]),
        ("service", span(&file.service), &[Kubernetes]),
        ("port", span(&file.port), &[Kubernetes]),
        ("config_map", span(&file.config_map), &[Kubernetes]),
        ("mode", span(&file.mode), &[Kubernetes]),
        ("instance", span(&file.instance), &[Kubernetes]),
        ("replicas", span(&file.replicas), &[Kubernetes]),
        ("grace_s", span(&file.grace_s), &[Etcd, Kubernetes]),
        ("algorithm", span(&file.algorithm), &[Etcd, Kubernetes]),
        ("allow_identities_without_port", span(&file.allow_identities_without_port), &[Etcd, Kubernetes]),
    ];
    let chosen = *file.source.get_ref();
    for (key, span, sources) in keys {
        if span.is_some() && !sources.contains(&chosen) {
            return Err(Located { problem: Problem::ForeignKey { key, source_name: name(chosen) }, span });
        }
    }
    Ok(())
}

/// The value under `key`, which the chosen source needs.
fn needed<T>(
    source: &Spanned<Source>,
    key: &'static str,
    meaning: &'static str,
    value: Option<Spanned<T>>,
) -> Checked<Spanned<T>> {
    value.ok_or_else(|| Located {
        problem: Problem::MissingKey { key, source_name: name(*source.get_ref()), meaning },
        span: Some(source.span()),
    })
}

fn new_ring(
    algorithm: Option<Spanned<crate::ring::Algorithm>>,
    allow: Option<Spanned<bool>>,
    grace_s: Option<Spanned<i64>>,
) -> Checked<NewRing> {
    Ok(NewRing {
        algorithm: algorithm.map(Spanned::into_inner).unwrap_or_default(),
        allow_identities_without_port: allow.is_some_and(Spanned::into_inner),
        grace_s: number("grace_s", grace_s, 10, 0, 86_400)?,
    })
}

fn etcd(file: file::Membership) -> Checked<Etcd> {
    let endpoints = needed(&file.source, "endpoints", "the URLs of etcd's members", file.endpoints)?;
    let span = endpoints.span();
    let endpoints = endpoints.into_inner();
    if endpoints.is_empty() {
        let problem =
            Problem::MissingKey { key: "endpoints", source_name: "etcd", meaning: "the URLs of etcd's members" };
        return Err(Located { problem, span: Some(span) });
    }
    let endpoints = endpoints
        .into_iter()
        .map(|endpoint| {
            located(endpoint, |text| {
                let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
                match host {
                    Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(text),
                    _ => Err(Problem::Endpoint(text)),
                }
            })
        })
        .collect::<Checked<Vec<String>>>()?;
    let prefix = file.prefix.map(|prefix| {
        located(prefix, |text| {
            let good = text.len() > 2 && text.starts_with('/') && text.ends_with('/');
            if good { Ok(text) } else { Err(Problem::Prefix(text)) }
        })
    });
    let login = match (file.username, absolute("password_file", file.password_file)?) {
        (None, None) => None,
        (Some(username), Some(password_file)) => Some(Login { username: username.into_inner(), password_file }),
        (Some(_), None) => return missing(&file.source, "password_file", "the file with the password of `username`"),
        (None, Some(_)) => return missing(&file.source, "username", "whose password is in `password_file`"),
    };
    let tls = tls(&file.source, file.ca_file, file.cert_file, file.key_file)?;
    for endpoint in &endpoints {
        match (endpoint.starts_with("https://"), &tls) {
            (true, None) => return missing(&file.source, "ca_file", "whose certificates to trust, for `https`"),
            (false, Some(_)) => {
                return Err(Located { problem: Problem::PlainEndpoint(endpoint.clone()), span: Some(span) });
            }
            _ => {}
        }
    }
    Ok(Etcd {
        endpoints,
        prefix: prefix.transpose()?.unwrap_or_else(|| "/ringsteer/".into()),
        lease_ttl_s: number("lease_ttl_s", file.lease_ttl_s, 5, 1, 3600)?,
        login,
        tls,
        new_ring: new_ring(file.algorithm, file.allow_identities_without_port, file.grace_s)?,
    })
}

fn tls(
    source: &Spanned<Source>,
    ca_file: Option<Spanned<PathBuf>>,
    cert_file: Option<Spanned<PathBuf>>,
    key_file: Option<Spanned<PathBuf>>,
) -> Checked<Option<Tls>> {
    let ca_file = absolute("ca_file", ca_file)?;
    let identity = match (absolute("cert_file", cert_file)?, absolute("key_file", key_file)?) {
        (None, None) => None,
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (Some(_), None) => return missing(source, "key_file", "the key of `cert_file`"),
        (None, Some(_)) => return missing(source, "cert_file", "the certificate of `key_file`"),
    };
    match (ca_file, identity) {
        (Some(ca_file), identity) => Ok(Some(Tls { ca_file, identity })),
        (None, None) => Ok(None),
        (None, Some(_)) => missing(source, "ca_file", "whose certificates to trust"),
    }
}

fn missing<T>(source: &Spanned<Source>, key: &'static str, meaning: &'static str) -> Checked<T> {
    needed::<()>(source, key, meaning, None).map(|_| unreachable!("`needed` refuses what is missing"))
}

fn kubernetes(file: file::Membership) -> Checked<Kubernetes> {
    let object = |text: String| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
        let good = (1..=253).contains(&text.len()) && text.chars().all(plain);
        if good { Ok(text) } else { Err(Problem::KubernetesName(text)) }
    };
    let mode = file.mode.map(Spanned::into_inner).unwrap_or_default();
    let service = needed(&file.source, "service", "the service whose endpoints are the members", file.service)?;
    if mode == KubernetesMode::OpenimStatefulset {
        if file.instance.is_none() {
            return missing(&file.source, "instance", "the name of OpenIM's release, which its pods are named after");
        }
        if file.replicas.is_none() {
            return missing(&file.source, "replicas", "how many gateways OpenIM counts on");
        }
    }
    let replicas = file.replicas.map(|replicas| number("replicas", Some(replicas), 1, 1, MAX_NODES as u32 - 1));
    Ok(Kubernetes {
        namespace: file.namespace.map(|name| located(name, object)).transpose()?,
        service: located(service, object)?,
        port: number("port", file.port, 88, 1, u16::MAX)?,
        config_map: file
            .config_map
            .map(|name| located(name, object))
            .transpose()?
            .unwrap_or_else(|| "ringsteer-ring".into()),
        mode,
        instance: file.instance.map(|name| located(name, object)).transpose()?,
        replicas: replicas.transpose()?,
        new_ring: new_ring(file.algorithm, file.allow_identities_without_port, file.grace_s)?,
    })
}
