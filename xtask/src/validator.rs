//! `kubernetes-validate`, which carries the JSON schemas of Kubernetes.

use std::path::PathBuf;

use anyhow::Result;

use crate::python::Environment;

const ENVIRONMENT: Environment = Environment {
    name: "kubernetes-validate",
    builder: None,
    packages: &[
        "kubernetes-validate==1.33.1",
        "attrs==26.1.0",
        "importlib_resources==7.1.0",
        "jsonschema==4.26.0",
        "jsonschema-specifications==2025.9.1",
        "packaging==26.3",
        "PyYAML==6.0.3",
        "referencing==0.37.0",
        "rpds-py==2026.9.1",
        // Needed before Python 3.13 only; harmless after.
        "typing_extensions==4.16.0",
    ],
};

/// Where the program is.
pub fn provide() -> Result<PathBuf> {
    let directory = ENVIRONMENT.provide("", |_| Ok(()))?;
    Ok(directory.join("bin/kubernetes-validate"))
}
