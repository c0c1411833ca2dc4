//! The Autobahn test suite, which the websocket codec is held to.
//!
//! It is written in Python 2, and stands on releases of other packages that knew both. They still run; the suite itself
//! is made to by `gateway-userspace/websocket/tests/autobahn/convert.py`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, python::Environment, workspace};

const ENVIRONMENT: Environment = Environment {
    name: "autobahn",
    builder: Some("setuptools==80.9.0"),
    packages: &[
        "autobahntestsuite==25.10.1",
        // The releases that the suite was written against.
        "autobahn==0.10.9",
        "txaio==2.1.0",
        "six==1.17.0",
        "fissix==24.4.24",
        "appdirs==1.4.4",
        "Twisted==26.10.0",
        "attrs==26.1.0",
        "Automat==25.4.16",
        "constantly==23.10.4",
        "hyperlink==21.0.0",
        "idna==3.20",
        "Incremental==24.11.0",
        "packaging==26.3",
        "typing_extensions==4.16.0",
        "zope.interface==8.7",
    ],
};

/// Where the suite is, with an interpreter in `bin` and the converted suite in `suite`.
pub fn provide() -> Result<PathBuf> {
    let convert = workspace::root().join("gateway-userspace/websocket/tests/autobahn/convert.py");
    let version = fs::read_to_string(&convert).with_context(|| format!("cannot read {}", convert.display()))?;
    ENVIRONMENT.provide(&version, |directory: &Path| {
        let mut python = Command::new(directory.join("bin/python"));
        command::run(python.args(["-W", "ignore"]).arg(&convert).arg(directory.join("suite")))
    })
}
