//! What is steered, by the maps and by the configuration.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::ControlFlow,
};

use anyhow::{Context as _, Result};
use ringsteer_ebpf::layout::service::MAX_PARAMETER;

use super::address::unmapped;
use crate::{config, control::ServiceStatus, dataplane::readings::Readings};

/// All services that the maps or the configuration know, by address and port.
///
/// # Errors
/// If the kernel refuses.
pub fn all(readings: &Readings, configured: &[config::Service]) -> Result<Vec<ServiceStatus>> {
    let mut flows: HashMap<u32, u64> = HashMap::new();
    let walked = readings.flows.each(|key, _| {
        *flows.entry(key.service.into()).or_default() += 1;
        ControlFlow::Continue(())
    });
    walked.context("cannot walk the flow table")?;
    let mut all: BTreeMap<SocketAddr, ServiceStatus> = BTreeMap::new();
    for one in readings.services.iter() {
        let (key, service) = one.context("cannot read the services")?;
        let address = SocketAddr::new(unmapped(&key.address), key.port as u16);
        let length = (service.parameter_length as usize).min(MAX_PARAMETER);
        let parameter = String::from_utf8_lossy(&service.parameter[..length]).into_owned();
        all.insert(
            address,
            ServiceStatus {
                number: Some(service.service),
                name: None,
                address,
                parameter: Some(parameter).filter(|parameter| !parameter.is_empty()),
                serve: None,
                mss: Some(service.mss),
                flows: flows.get(&service.service).copied().unwrap_or(0),
            },
        );
    }
    for one in configured {
        let service = all.entry(one.address).or_insert_with(|| ServiceStatus {
            number: None,
            name: None,
            address: one.address,
            parameter: one.parameter.as_ref().map(ToString::to_string),
            serve: None,
            mss: None,
            flows: 0,
        });
        (service.name, service.serve) = (Some(one.name.clone()), Some(one.serve));
    }
    Ok(all.into_values().collect())
}
