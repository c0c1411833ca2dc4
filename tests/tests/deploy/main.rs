//! The manifests of `deploy/`: built by the real kustomize, and held to the schemas of Kubernetes and to what the API
//! server and we expect beyond them.
//!
//! | file | subject |
//! |---|---|
//! | `schema` | the shape of every object, by two independent accounts of it |
//! | `rules` | what one object says of another |
//! | `security` | who may do what |
//! | `config` | what a node reads |
//! | `image` | the Dockerfile |

mod config;
mod image;
mod rules;
mod schema;
mod security;
