//! An etcd that lets only those in who have a certificate and a password.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use etcd_client::{Certificate, ConnectOptions, Permission, TlsOptions};

use super::*;
use crate::config::{Login, Tls};

/// Makes a certificate authority, and certificates of it for etcd and for a node.
fn make_certificates(directory: &Path) {
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").current_dir(directory).args(arguments).output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let ec = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let make = |name: &str, subject: &str, rest: &[&str]| {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        openssl(&[&ec[..], &["-keyout", &key, "-out", &certificate, "-subj", subject], rest].concat());
    };
    for authority in ["ca", "other"] {
        make(authority, &format!("/CN={authority}"), &["-addext", "keyUsage=keyCertSign"]);
    }
    for (name, more) in [("etcd", "subjectAltName=IP:127.0.0.1"), ("node", "extendedKeyUsage=clientAuth")] {
        let signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", more, "-addext", "basicConstraints=CA:FALSE"];
        make(name, &format!("/CN={name}"), &signed);
    }
}

/// One that has a user `ringsteer` with the password `open sesame`, who may only touch what is below `/fleet/`.
async fn guarded() -> Server {
    let directory = tempfile::tempdir().unwrap();
    make_certificates(directory.path());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let arguments = [
        format!("--cert-file={}", file("etcd.pem")),
        format!("--key-file={}", file("etcd.key")),
        format!("--trusted-ca-file={}", file("ca.pem")),
        "--client-cert-auth".to_owned(),
    ];
    let server = Server::start_with(directory, &arguments);
    let pem = |name: &str| fs::read(server.path(name)).unwrap();
    let tls = TlsOptions::new()
        .ca_certificate(Certificate::from_pem(pem("ca.pem")))
        .identity(etcd_client::Identity::from_pem(pem("node.pem"), pem("node.key")));
    let mut admin = Client::connect([server.url()], Some(ConnectOptions::new().with_tls(tls))).await.unwrap();
    for role in ["root", "fleet"] {
        admin.role_add(role).await.unwrap();
    }
    let ours = Permission::read_write("/fleet/").with_prefix();
    admin.role_grant_permission("fleet", ours).await.unwrap();
    for (user, password, role) in [("root", "root", "root"), ("ringsteer", "open sesame", "fleet")] {
        admin.user_add(user, password, None).await.unwrap();
        admin.user_grant_role(user, role).await.unwrap();
    }
    admin.auth_enable().await.unwrap();
    server
}

fn config(server: &Server, ca: &str, password_file: PathBuf) -> Etcd {
    Etcd {
        endpoints: vec![server.url()],
        prefix: "/fleet/".into(),
        lease_ttl_s: 5,
        login: Some(Login { username: "ringsteer".into(), password_file }),
        tls: Some(Tls { ca_file: server.path(ca), identity: Some((server.path("node.pem"), server.path("node.key"))) }),
        new_ring: NewRing { algorithm: Algorithm::OpenIm, allow_identities_without_port: false, grace_s: 600 },
    }
}

fn follow(config: Etcd) -> Following {
    let this = Announcement { identity: Identity::new("node-1:88").unwrap(), address: address(201) };
    Following::start(Box::new(EtcdSource::new(config, this)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_certificate_and_password_is_let_in() {
    let server = guarded().await;
    let password = server.path("password");
    let missing = follow(config(&server, "ca.pem", password.clone())).trouble().await;
    assert!(missing.contains(&format!("cannot read {}", password.display())), "{missing}");

    fs::write(&password, "open barley\n").unwrap();
    let mut node = follow(config(&server, "ca.pem", password.clone()));
    let trouble = node.trouble().await;
    assert!(trouble.contains("authentication failed"), "{trouble}");
    // The file is read again at each attempt.
    fs::write(&password, "open sesame\n").unwrap();
    let ring = node.ring(|_| true).await;
    assert_eq!(ring.members()[0].identity.as_str(), "node-1:88");
    node.silence().await;

    let untrusted = follow(config(&server, "other.pem", password.clone())).trouble().await;
    assert!(untrusted.contains("certificate"), "{untrusted}");
    let elsewhere = Etcd { prefix: "/other/".into(), ..config(&server, "ca.pem", password) };
    let denied = follow(elsewhere).trouble().await;
    assert!(denied.contains("permission denied"), "{denied}");
}
