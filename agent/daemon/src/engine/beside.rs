//! Old and new containers of one service side by side: which of them the names of a network lead to, and the end of those that
//! are not needed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{EndpointSettings, IpamConfig, NetworkConnectRequest, NetworkDisconnectRequest, NetworkInspect},
    query_parameters::{
        InspectNetworkOptions, ListNetworksOptions, RemoveContainerOptions, RenameContainerOptions,
        StopContainerOptions,
    },
};
use evenkeel_core::id::ImageId;

use super::{Engine, EngineError, PROJECT};

/// How long a stop may take, in seconds: the container's own grace period comes first, and may be long.
const STOP_TIMEOUT_S: u64 = 15 * 60;
/// How often, and how many times, is looked whether a container that is being removed is gone.
const GONE_LOOK: Duration = Duration::from_millis(200);
const GONE_LOOKS: u32 = 150;
/// How far up in a subnet a free address is looked for.
const MAX_LOOKED_AT: u128 = 65_536;

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attached {
    /// The names that it was given there; its own name and the short id lead to it in any case.
    pub aliases: BTreeSet<String>,
    /// Its addresses; none while it does not run.
    pub addresses: BTreeSet<IpAddr>,
}

impl Engine {
    /// The networks that a container is on, by name.
    pub async fn attached(&self, container: &str) -> Result<BTreeMap<String, Attached>, EngineError> {
        let found = self.inspected(container).await?;
        let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
        let attached = |endpoint: EndpointSettings| {
            let texts = [endpoint.ip_address, endpoint.global_ipv6_address].into_iter().flatten();
            Attached {
                aliases: endpoint.aliases.unwrap_or_default().into_iter().collect(),
                addresses: texts.filter_map(|text| text.parse().ok()).collect(),
            }
        };
        Ok(networks.into_iter().map(|(name, endpoint)| (name, attached(endpoint))).collect())
    }

    /// Has a container leave a network. What it has open there goes on if it comes back soon and gets its former addresses again.
    pub async fn leave(&self, container: &str, network: &str) -> Result<(), EngineError> {
        let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        let done = self.docker()?.disconnect_network(network, request).await;
        done.map_err(|e| self.error("have a container leave a network", &e))
    }

    /// Puts a container on a network, to be found by these names.
    pub async fn join(&self, container: &str, network: &str, aliases: &BTreeSet<String>) -> Result<(), EngineError> {
        let endpoint = EndpointSettings { aliases: Some(aliases.iter().cloned().collect()), ..Default::default() };
        let request = NetworkConnectRequest { container: container.to_owned(), endpoint_config: Some(endpoint) };
        let done = self.docker()?.connect_network(network, request).await;
        done.map_err(|e| self.error("put a container on a network", &e))
    }

    /// Whether a container that leaves a network and comes back at once gets the addresses again that it has there: the engine
    /// gives the lowest that is free.
    pub async fn keeps_addresses(&self, addresses: &BTreeSet<IpAddr>, network: &str) -> Result<bool, EngineError> {
        let found = self.docker()?.inspect_network(network, None::<InspectNetworkOptions>).await;
        let found = found.map_err(|e| self.error("look for a network", &e))?;
        Ok(found.driver.as_deref() == Some("bridge") && are_lowest(addresses, &found))
    }

    /// Where in a container are volumes without a name.
    pub async fn unnamed_volumes(&self, container: &str) -> Result<Vec<String>, EngineError> {
        let mounts = self.inspected(container).await?.mounts.unwrap_or_default();
        let is_unnamed = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let volumes = mounts.into_iter().filter(|mount| mount.typ == Some("volume".to_owned()));
        let unnamed = volumes.filter(|mount| mount.name.as_deref().is_some_and(is_unnamed));
        Ok(unnamed.filter_map(|mount| mount.destination).collect())
    }

    /// Where an image wants volumes, whether or not anybody names them.
    pub async fn wanted_volumes(&self, image: &ImageId) -> Result<Vec<String>, EngineError> {
        let found = self.docker()?.inspect_image(&image.0).await.map_err(|e| self.error("look for an image", &e))?;
        Ok(found.config.and_then(|config| config.volumes).unwrap_or_default())
    }

    /// Stops a container within its own grace period and removes it. Its volumes stay. One that is gone is fine.
    pub async fn retire(&self, container: &str) -> Result<(), EngineError> {
        let docker = Docker::connect_with_unix(&self.socket, STOP_TIMEOUT_S, API_DEFAULT_VERSION);
        let docker = docker.map_err(|e| self.error("connect", &e))?;
        let stopped = docker.stop_container(container, None::<StopContainerOptions>).await;
        gone_is_fine(stopped.map_err(|e| self.error("stop a container", &e)))?;
        let options = RemoveContainerOptions { v: false, force: false, link: false };
        let removed = docker.remove_container(container, Some(options)).await;
        match gone_is_fine(removed.map_err(|e| self.error("remove a container", &e))) {
            Err(EngineError::Failed { why, .. }) if why.contains("already in progress") => self.gone(container).await,
            other => other,
        }
    }

    /// Waits until a container is gone that somebody removes.
    async fn gone(&self, container: &str) -> Result<(), EngineError> {
        for _ in 0..GONE_LOOKS {
            match self.inspected(container).await {
                Err(EngineError::NotFound(_)) => return Ok(()),
                Err(other) => return Err(other),
                Ok(_) => tokio::time::sleep(GONE_LOOK).await,
            }
        }
        let what = "remove a container".to_owned();
        Err(EngineError::Failed { what, why: "its removal is in progress and does not end".to_owned() })
    }

    /// Removes a project's networks whose names end so.
    pub async fn remove_networks(&self, project: &str, ending: &str) -> Result<(), EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![format!("{PROJECT}={project}")])]);
        let docker = self.docker()?;
        let found = docker.list_networks(Some(ListNetworksOptions { filters: Some(filters) })).await;
        let found = found.map_err(|e| self.error("list networks", &e))?;
        for name in found.into_iter().filter_map(|network| network.name).filter(|name| name.ends_with(ending)) {
            let removed = docker.remove_network(&name).await;
            gone_is_fine(removed.map_err(|e| self.error("remove a network", &e)))?;
        }
        Ok(())
    }

    /// Gives a container another name.
    pub async fn rename(&self, container: &str, name: &str) -> Result<(), EngineError> {
        let options = RenameContainerOptions { name: name.to_owned() };
        self.docker()?.rename_container(container, options).await.map_err(|e| self.error("rename a container", &e))
    }
}

fn gone_is_fine(done: Result<(), EngineError>) -> Result<(), EngineError> {
    match done {
        Err(EngineError::NotFound(_)) => Ok(()),
        other => other,
    }
}

/// Whether each of these addresses is the lowest of its subnet that nobody else has.
fn are_lowest(addresses: &BTreeSet<IpAddr>, network: &NetworkInspect) -> bool {
    let taken: BTreeSet<IpAddr> = network
        .containers
        .iter()
        .flatten()
        .flat_map(|(_, endpoint)| [&endpoint.ipv4_address, &endpoint.ipv6_address])
        .filter_map(|text| text.as_deref()?.split('/').next()?.parse().ok())
        .filter(|address| !addresses.contains(address))
        .collect();
    let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    !addresses.is_empty()
        && addresses.iter().all(|address| configs.iter().any(|config| lowest(config, &taken) == Some(*address)))
}

/// The lowest address of a subnet that nobody has; `None` if that cannot be told.
fn lowest(config: &IpamConfig, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    if config.ip_range.as_deref().is_some_and(|range| !range.is_empty()) {
        return None;
    }
    let (base, bits) = config.subnet.as_deref()?.split_once('/')?;
    let (base, bits): (IpAddr, u32) = (base.parse().ok()?, bits.parse().ok()?);
    let gateway: IpAddr = config.gateway.as_deref()?.split('/').next()?.parse().ok()?;
    let reserved: BTreeSet<IpAddr> =
        config.auxiliary_addresses.iter().flatten().filter_map(|(_, text)| text.parse().ok()).collect();
    let width = if base.is_ipv4() { 32 } else { 128 };
    let size = 1_u128.checked_shl(u32::checked_sub(width, bits)?).unwrap_or(u128::MAX);
    let is_free = |address: &IpAddr| *address != gateway && !taken.contains(address) && !reserved.contains(address);
    (1..size.min(MAX_LOOKED_AT)).find_map(|n| plus(base, n).filter(is_free))
}

fn plus(address: IpAddr, n: u128) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => Some(IpAddr::V4(u32::from(v4).checked_add(u32::try_from(n).ok()?)?.into())),
        IpAddr::V6(v6) => Some(IpAddr::V6(u128::from(v6).checked_add(n)?.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use bollard::models::{EndpointResource, Ipam};

    use super::*;

    fn network(subnet: &str, gateway: &str, taken: &[&str]) -> NetworkInspect {
        let config =
            IpamConfig { subnet: Some(subnet.to_owned()), gateway: Some(gateway.to_owned()), ..IpamConfig::default() };
        let endpoint = |(n, address): (usize, &&str)| {
            (n.to_string(), EndpointResource { ipv4_address: Some((*address).to_owned()), ..Default::default() })
        };
        let containers: HashMap<_, _> = taken.iter().enumerate().map(endpoint).collect();
        let ipam = Some(Ipam { config: Some(vec![config]), ..Ipam::default() });
        NetworkInspect { ipam, containers: Some(containers), ..NetworkInspect::default() }
    }

    #[test]
    fn an_address_comes_back_if_no_lower_one_is_free() {
        let of = |text: &str| BTreeSet::from([text.parse().unwrap()]);
        let all = network("172.19.0.0/16", "172.19.0.1", &["172.19.0.2/16", "172.19.0.3/16", "172.19.0.5/16"]);
        assert!(are_lowest(&of("172.19.0.3"), &all));
        assert!(!are_lowest(&of("172.19.0.5"), &all), ".4 is free");
        assert!(!are_lowest(&BTreeSet::new(), &all));
        assert!(!are_lowest(&of("10.0.0.2"), &all), "it is of no subnet that is known");
        let other_gateway = network("172.19.0.0/24", "172.19.0.254", &["172.19.0.2/24"]);
        assert!(!are_lowest(&of("172.19.0.2"), &other_gateway), ".1 is free");
        let mut six = network("fd00::/64", "fd00::1", &[]);
        assert!(are_lowest(&of("fd00::2"), &six));
        let config = &mut six.ipam.as_mut().unwrap().config.as_mut().unwrap()[0];
        config.ip_range = Some("fd00::/80".to_owned());
        assert!(!are_lowest(&of("fd00::2"), &six), "who knows where the engine begins");
    }
}
