//! The manifests of `deploy/`: built by the real kustomize, and held to the schemas of Kubernetes and to what the API
//! server and we expect beyond them.
//!
//! | file | subject |
//! |---|---|
//! | `schema` | the shape of every object, by two independent accounts of it |
//! | `rules` | what one object says of another |
//! | `security` | who may do what |
//! | `image` | the Dockerfile |

mod image;
mod rules;
mod schema;
mod security;
